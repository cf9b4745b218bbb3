"""`siamfast train`."""

from __future__ import annotations

import argparse

from siamfast.training import config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from siamfast.training.trainer import Trainer

    trainer = Trainer(config.from_arguments(arguments))
    figures = trainer.run()
    print(
        f"{trainer.out / 'siamfc.safetensors'}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    )
    return 0
