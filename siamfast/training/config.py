"""The training configuration: one dataclass whose every field is a flag of `siamfast train`."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from dataclasses import dataclass, field
from typing import Any, Literal


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class TrainConfig:
    """What `siamfast train` does. Defaults: the paper's recipe (Bertinetto et al. 2016, section 4), synthetic video."""

    data: str = _option("synthetic", "'synthetic', or a folder of annotated sequences (frames + groundtruth.txt)")
    val_data: str = _option("", "validation data, as --data; empty: held-out synthetic scenes, or --data itself")
    out: str = _option("runs/siamfc", "folder for checkpoints, logs and weights; a run found there is resumed")
    init: str = _option("", "weights to start from (safetensors or a checkpoint of another project); empty: random")
    steps: int = _option(20_000, "optimizer steps")
    batch_size: int = _option(32, "pairs in a step")
    seed: int = _option(0, "seed of the initial weights, of the data and of the augmentation")
    device: str = _option("auto", "'auto' (CUDA where there is one), 'cpu', 'cuda', 'cuda:1', ...")
    amp: Literal["auto", "bf16", "off"] = _option("auto", "bfloat16 autocast; auto: where the device has fast bfloat16")
    workers: int = _option(-1, "processes that draw pairs; -1: one per spare core, at most 8; 0: in the main process")
    # pairs
    exemplar: int = _option(127, "side of the template crop, pixels")
    instance: int = _option(255, "side of the search crop, pixels")
    max_gap: int = _option(100, "largest distance of the two frames of a pair, frames")
    max_shift: float = _option(32.0, "largest shift of the target from the centre of the search crop, pixels")
    max_stretch: float = _option(0.08, "largest relative change of the search crop's size")
    negatives: float = _option(0.0, "share of pairs whose search crop shows no target")
    gray: float = _option(0.15, "share of pairs turned gray")
    color_jitter: float = _option(0.2, "brightness, contrast, saturation factors drawn from 1 +- this, for each crop")
    blur: float = _option(0.1, "share of crops blurred")
    # loss
    r_pos: float = _option(16.0, "radius of the positive labels, search-crop pixels")
    r_neg: float = _option(0.0, "radius beyond which labels are negative, where larger than r_pos")
    metric: Literal["l1", "l2"] = _option("l2", "distance of the labels: l1 (the seed) or l2 (the paper)")
    balance: Literal["sample", "batch"] = _option("sample", "positives and negatives share each sample, or the batch")
    # optimizer
    optimizer: Literal["sgd", "adamw"] = _option("sgd", "sgd: momentum 0.9, exponential decay; adamw: cosine decay")
    lr: float = _option(1e-2, "first learning rate")
    lr_end: float = _option(1e-5, "last learning rate")
    warmup: int = _option(200, "steps over which the learning rate rises from 0")
    weight_decay: float = _option(5e-4, "weight decay")
    scale: float = _option(1e-3, "factor of the response at the start")
    learn_scale: bool = _option(True, "train the response's factor")
    learn_bias: bool = _option(True, "train the response's bias")
    # record
    log_every: int = _option(20, "steps between TensorBoard scalars")
    val_every: int = _option(1000, "steps between validations; also after the last")
    val_pairs: int = _option(512, "pairs of a validation")
    save_every: int = _option(200, "steps between checkpoints; also after the last")

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "exemplar", "instance", "max_gap", "log_every", "val_every", "val_pairs"):
            self._check(name, getattr(self, name) >= 1, "1 or more")
        self._check("save_every", self.save_every >= 1, "1 or more")
        self._check("instance", self.instance >= self.exemplar, f"at least exemplar ({self.exemplar})")
        self._check("exemplar", self.exemplar >= 87, "at least 87, the network's receptive field")
        for name in ("negatives", "gray", "blur"):
            self._check(name, 0.0 <= getattr(self, name) <= 1.0, "a share between 0 and 1")
        for name in ("max_shift", "r_neg", "weight_decay", "color_jitter", "warmup"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("lr", "lr_end", "r_pos", "scale"):
            self._check(name, getattr(self, name) > 0, "more than 0")
        self._check("max_stretch", 0.0 <= self.max_stretch < 0.5, "in [0, 0.5)")
        self._check("workers", self.workers >= -1, "-1 or more")
        for name, hint in typing.get_type_hints(TrainConfig).items():
            if typing.get_origin(hint) is Literal:
                choices = typing.get_args(hint)
                self._check(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"{name}: got {getattr(self, name)!r}, expected {expected}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag a field, named, typed, defaulted and explained by the dataclass."""
    hints = typing.get_type_hints(TrainConfig)
    for entry in dataclasses.fields(TrainConfig):
        flag, hint = f"--{entry.name.replace('_', '-')}", hints[entry.name]
        text = f"{entry.metadata['help']} (default: {entry.default!r})".replace("%", "%%")
        if hint is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=entry.default, help=text)
        elif typing.get_origin(hint) is Literal:
            parser.add_argument(flag, choices=typing.get_args(hint), default=entry.default, help=text)
        else:
            parser.add_argument(flag, type=hint, default=entry.default, help=text)


def from_arguments(arguments: argparse.Namespace) -> TrainConfig:
    """The configuration that parsed flags describe."""
    return TrainConfig(**{entry.name: getattr(arguments, entry.name) for entry in dataclasses.fields(TrainConfig)})
