"""`siamfast train`."""

from __future__ import annotations

import argparse
from typing import Any

from siamfast.training import config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from siamfast.training.correspondence import CorrespondenceTrainer
    from siamfast.training.guided import GuidedTrainer
    from siamfast.training.mobile import MobileTrainer
    from siamfast.training.siamfc import SiamFCTrainer

    makers: dict[str, Any] = {
        "siamfc": SiamFCTrainer,
        "guided": GuidedTrainer,
        "mobile": MobileTrainer,
        "correspondence": CorrespondenceTrainer,
    }
    trainer = makers[arguments.task](config.from_arguments(arguments))
    figures = trainer.run()
    print(f"{trainer.out / trainer.file}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    return 0
