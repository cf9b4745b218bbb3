"""The arguments of crop_and_resize's raw op, by name."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import torch

from siamfast.ops.crop_and_resize import reference


class Border(IntEnum):
    """The pixels outside the image."""

    CONSTANT = reference.BORDERS["constant"]  # the fill
    REPLICATE = reference.BORDERS["replicate"]  # the edge pixel
    REFLECT = reference.BORDERS["reflect"]  # without repeating the edge pixel


class Rule(IntEnum):
    """The sampling rule of an output cell."""

    PIXEL = reference.RULES["pixel"]  # OpenCV's resize of the cut-out window: taps stay in the window
    SUBPIXEL = reference.RULES["subpixel"]  # half-pixel centres: taps at the window's rim read the image beyond it
    CORNER_ALIGNED = reference.RULES["corner-aligned"]  # the first and last cell are the window's first and last pixel


class Options(NamedTuple):
    """The raw op's arguments that are not tensors."""

    height: int  # of the output, like width
    width: int
    border: int  # a Border
    rule: int  # a Rule
    antialias: bool  # when shrinking, a triangle filter as wide as the step


class CropCall(NamedTuple):
    """The arguments of the raw op."""

    image: torch.Tensor  # (N, C, H, W)
    windows: torch.Tensor  # (M, 4) float64 on the CPU: x, y, width, height; N = 1 or M
    fill: torch.Tensor  # (N, C)
    options: Options

    @classmethod
    def of(cls, image: torch.Tensor, windows: torch.Tensor, fill: torch.Tensor, *options: Any) -> CropCall:
        """From the raw op's flat arguments."""
        return cls(image, windows, fill, Options(*options))
