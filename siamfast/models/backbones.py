"""Backbones of the guided tracker behind one interface: features of stride 8, and the pixel of each cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import nn

from siamfast.geometry import STRIDE
from siamfast.models.alexnet import INPUT_MEAN, INPUT_STD, AlexNet, feature_size, smallest_input
from siamfast.models.correspondence import CorrespondenceEncoder


class Backbone(nn.Module):
    """Features of RGB images, 0..255: of `cells(side)` cells along a side, cell i is at pixel first + 8 i.

    channels: number of feature channels. first: pixel (index, centre of pixel 0 is 0) of the first cell. head_convs:
    number of unpadded 3 x 3 convolutions in the head over it, as in SiamFC++.
    """

    channels: ClassVar[int]
    first: ClassVar[int]
    head_convs: ClassVar[int]

    def cells(self, side: int) -> int:
        """Cells along a side of `side` pixels.

        Raises:
            ValueError: the side is too short for a cell.
        """
        raise NotImplementedError

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: (N, 3, S, S), RGB 0..255, uint8 or floating -> (N, channels, cells(S), cells(S))."""
        raise NotImplementedError


class AlexNetBackbone(Backbone):
    """SiamFC's AlexNet, unpadded: 127 -> 6, 303 -> 28. Its first cell depends on pixels 0 to 86 and is at pixel 43.

    >>> AlexNetBackbone().cells(303)
    28
    """

    channels, first, head_convs = 256, 43, 3
    input_mean: torch.Tensor
    input_std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = AlexNet()
        # As in SiamFC's training, whose weights initialise this backbone.
        self.register_buffer("input_mean", torch.full((1, 3, 1, 1), INPUT_MEAN))
        self.register_buffer("input_std", torch.full((1, 3, 1, 1), INPUT_STD))

    def cells(self, side: int) -> int:
        if side < smallest_input():
            raise ValueError(f"side: got {side} pixels, expected {smallest_input()} or more")
        return feature_size(side)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.body((images.to(self.input_mean.dtype) - self.input_mean) / self.input_std)
        return features


class ResNetBackbone(Backbone):
    """Three stages of a ResNet-18 with stride 8 and half its width, without the cells nearer than 46 pixels to a
    border, where padding has most influence: 127 -> 5, 289 -> 25 (pixels 48 to 240), 303 -> 27.

    >>> ResNetBackbone().cells(289)
    25
    """

    channels, first, head_convs = 128, 48, 2
    _margin = 46

    def __init__(self) -> None:
        super().__init__()
        self.body = CorrespondenceEncoder(width=32, stages=3)

    def cells(self, side: int) -> int:
        count = (side - 1 - self._margin) // STRIDE - self.first // STRIDE + 1
        if count < 1:
            raise ValueError(f"side: got {side} pixels, expected {self.first + self._margin + 1} or more")
        return count

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        begin = self.first // STRIDE
        rows, columns = (slice(begin, begin + self.cells(side)) for side in images.shape[2:])
        features: torch.Tensor = self.body(images)[..., rows, columns]
        return features


BACKBONES: dict[str, Callable[[], Backbone]] = {"alexnet": AlexNetBackbone, "resnet": ResNetBackbone}
