"""How augment's raw op is called: its arguments by name."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Options(NamedTuple):
    """What the raw op takes beside tensors."""

    height: int  # of the output, as width
    width: int
    mean: list[float]  # one per channel, in grey levels, as std
    std: list[float]
    dtype: torch.dtype  # of the output


class AugmentCall(NamedTuple):
    """The arguments of the raw op."""

    images: torch.Tensor  # (N, 3, H, W) uint8
    draws: torch.Tensor  # (N, 14) float32
    options: Options
