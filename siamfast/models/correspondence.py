"""The correspondence encoder: a ResNet-18 of stride 8 with features that match cells between frames."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from siamfast.geometry import STRIDE

_MEAN, _STD = (
    (123.675, 116.28, 103.53),
    (58.395, 57.12, 57.375),
)  # ImageNet statistics, in 0..255


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut (He et al. 2016, figure 5 left); parameters are named as in
    torchvision."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, channels, H, W) -> (N, out, ceil(H / stride), ceil(W / stride))."""
        short = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(x + short)


class CorrespondenceEncoder(nn.Module):
    """ResNet-18 without the strides of its last two stages: features of stride 8, cell i at pixel 8i.

    Sources: He et al. 2016, "Deep Residual Learning for Image Recognition"; strides removed as by Jabri, Owens, Efros
    2020, "Space-Time Correspondence as a Contrastive Random Walk". Parameters are named as in torchvision, so its
    ResNet-18 (and CRW's encoders) load with `load_state_dict(state, strict=False)`.

    Cell i is at pixel 8i: a side of 8n + 1 pixels gives n + 1 cells, the first and last of them on the first and last
    pixel, so that `interpolate(align_corners=True)` converts maps between the two. `grid_side` rounds to such sides.

    Args:
        width: channels of the first stage (64: the paper's; the packaged weights have 32).
        stages: number of stages, of four; their channels are width, 2 width, 4 width, 8 width.

    Raises:
        ValueError: a width below 1, or stages outside 2..4.

    >>> import torch
    >>> encoder = CorrespondenceEncoder(width=16).eval()
    >>> encoder(torch.zeros(1, 3, 289, 161)).shape
    torch.Size([1, 128, 37, 21])
    """

    ARCHITECTURE: ClassVar[str] = "correspondence-resnet18"  # in the metadata of its weights

    input_mean: torch.Tensor
    input_std: torch.Tensor

    def __init__(self, *, width: int = 64, stages: int = 4) -> None:
        super().__init__()
        for name, value, low, high in (("width", width, 1, 4096), ("stages", stages, 2, 4)):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name}: got {value!r}, expected a whole number from {low} to {high}")
        self.width, self.stages = width, stages
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        for stage in range(stages):
            out = width * 2**stage
            blocks = BasicBlock(channels, out, 2 if stage == 1 else 1), BasicBlock(out, out, 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            channels = out
        self.channels = channels
        self.register_buffer("input_mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("input_std", torch.tensor(_STD).view(1, 3, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features to compare by cosine, as in `correspondence_warp`.

        Args:
            images: (N, 3, H, W), RGB 0..255, uint8 or floating; any H, W > 0.

        Returns:
            (N, channels, ceil(H / 8), ceil(W / 8)), floating, not normalised.

        Raises:
            ValueError: another shape.
        """
        if images.dim() != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
            raise ValueError(f"images: got shape {tuple(images.shape)}, expected (N, 3, H, W), RGB")
        if not images.is_floating_point():
            images = images.to(self.input_mean.dtype)
        x = (images - self.input_mean) / self.input_std
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x * self.channels**-0.25


def grid_side(side: float) -> int:
    """The length nearest to `side` pixels with cells on its first and last pixel: 8n + 1, at least 9.

    >>> grid_side(290), grid_side(3)
    (289, 9)
    """
    return max(1, round((side - 1) / STRIDE)) * STRIDE + 1
