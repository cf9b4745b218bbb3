"""The AlexNet-like backbone of SiamFC (Bertinetto et al. 2016, table 1): stride 8, no padding anywhere."""

from __future__ import annotations

import torch
from torch import nn

# The five convolutions: (in, out, kernel, stride, groups, max pool 3/2 after it); the last has neither BN nor ReLU.
LAYERS: tuple[tuple[int, int, int, int, int, bool], ...] = (
    (3, 96, 11, 2, 1, True),
    (96, 256, 5, 1, 2, True),
    (256, 384, 3, 1, 1, False),
    (384, 384, 3, 1, 2, False),
    (384, 256, 3, 1, 2, False),
)
CHANNELS = LAYERS[-1][1]
# Rough statistics of the synthetic pairs, 0..255: they bring the inputs of networks trained here to around 0.
INPUT_MEAN, INPUT_STD = 118.0, 60.0
BN_EPS, BN_MOMENTUM = 1e-6, 0.05  # momentum in PyTorch's sense: the share of the new batch


def smallest_input() -> int:
    """The side of the smallest image, in pixels, that gives one feature cell.

    >>> smallest_input()
    87
    """
    side = 1
    for _, _, kernel, stride, _, pool in reversed(LAYERS):
        side = ((side - 1) * 2 + 3 if pool else side) - 1
        side = side * stride + kernel
    return side


def feature_size(side: int) -> int:
    """Feature cells along a side of `side` pixels: 127 -> 6, 255 -> 22.

    >>> feature_size(127), feature_size(255)
    (6, 22)
    """
    for _, _, kernel, stride, _, pool in LAYERS:
        side = (side - kernel) // stride + 1
        side = (side - 3) // 2 + 1 if pool else side
    return side


def _stage(layer: tuple[int, int, int, int, int, bool], last: bool) -> nn.Sequential:
    channels, out, kernel, stride, groups, pool = layer
    # The bias before a BatchNorm has no effect, but existing checkpoints contain it.
    modules: list[nn.Module] = [nn.Conv2d(channels, out, kernel, stride, groups=groups)]
    if not last:
        modules += [nn.BatchNorm2d(out, eps=BN_EPS, momentum=BN_MOMENTUM), nn.ReLU(inplace=True)]
    if pool:
        modules.append(nn.MaxPool2d(3, 2))
    return nn.Sequential(*modules)


class AlexNet(nn.Module):
    """Features of stride 8: 5 convolutions (11, 5, 3, 3, 3; three of them in 2 groups), BatchNorm, ReLU, 2 max pools.

    Source: Bertinetto et al. 2016, "Fully-Convolutional Siamese Networks for Object Tracking", table 1. 2,336,320
    parameters. Nothing is padded, so a shift of the input by 8 pixels is a shift of the features by one cell.
    Weights start as in He et al. 2015 (normal, fan-in), so features start with a standard deviation of about 1.

    >>> import torch
    >>> AlexNet()(torch.zeros(2, 3, 127, 127)).shape
    torch.Size([2, 256, 6, 6])
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = (
            _stage(layer, last=layer is LAYERS[-1]) for layer in LAYERS
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """The five stages in order."""
        return self.conv1, self.conv2, self.conv3, self.conv4, self.conv5

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: (N, 3, H, W), floating -> features (N, 256, h, w), h = feature_size(H). Keeps channels_last.

        Raises:
            ValueError: `images` is not (N, 3, H, W) with sides of at least smallest_input() pixels.
        """
        least = smallest_input()
        if images.dim() != 4 or images.shape[1] != 3 or min(images.shape[2:]) < least:
            raise ValueError(f"images: got shape {tuple(images.shape)}, expected (N, 3, H, W) with H, W >= {least}")
        features = images
        for stage in self.stages:
            features = stage(features)
        return features
