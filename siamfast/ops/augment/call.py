"""The arguments of augment's raw op, by name."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Options(NamedTuple):
    """The raw op's arguments that are not tensors."""

    height: int  # of the output, like width
    width: int
    mean: list[float]  # one per channel, in grey levels, like std
    std: list[float]
    dtype: torch.dtype  # of the output


class AugmentCall(NamedTuple):
    """The arguments of the raw op."""

    images: torch.Tensor  # (N, 3, H, W) uint8
    draws: torch.Tensor  # (N, 14) float32
    options: Options
