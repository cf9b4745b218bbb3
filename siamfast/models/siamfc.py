"""SiamFC: one backbone on template and search image, their cross-correlation as the response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from siamfast.models.alexnet import AlexNet
from siamfast.ops.xcorr import xcorr


def _three(values: Sequence[float] | float, name: str) -> torch.Tensor:
    tensor = torch.as_tensor(values, dtype=torch.float32).reshape(-1)
    if tensor.numel() not in (1, 3) or not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name}: got {values!r}, expected one or three finite numbers (R, G, B)")
    return tensor.expand(3).reshape(1, 3, 1, 1).clone()


class SiamFC(nn.Module):
    """response = scale * xcorr(backbone(template), backbone(search)) + bias.

    Source: Bertinetto et al. 2016, "Fully-Convolutional Siamese Networks for Object Tracking", eq. 1.

    The input is always RGB 0..255 (uint8 or floating). The backbone gets (image - input_mean) / input_std, both part of
    the state dict: 0 and 1 (the default) for weights like those of the original, siamfc-pytorch and StrangerZhang,
    which take raw 0..255; real statistics for weights trained on normalised images.

    Args:
        scale: factor of the correlation. 0.001 keeps the response in a logit's range for features of about unit size.
        bias: added to the response.
        learn_scale, learn_bias: whether they are parameters or buffers. The original fixes the scale and learns the
            bias; siamfc-pytorch fixes both.
        input_mean, input_std: one number or three (R, G, B), in units of 0..255.

    Raises:
        ValueError: a number is not finite, or input_std is not above 0.

    >>> import torch
    >>> model = SiamFC()
    >>> model(torch.zeros(1, 3, 127, 127), torch.zeros(3, 3, 255, 255)).shape
    torch.Size([3, 1, 17, 17])
    >>> sum(p.numel() for p in model.backbone.parameters())
    2336320
    """

    ARCHITECTURE: ClassVar[str] = "siamfc-alexnet"  # in the metadata of its weights

    scale: torch.Tensor
    bias: torch.Tensor
    input_mean: torch.Tensor
    input_std: torch.Tensor

    def __init__(
        self,
        *,
        scale: float = 0.001,
        bias: float = 0.0,
        learn_scale: bool = False,
        learn_bias: bool = True,
        input_mean: Sequence[float] | float = 0.0,
        input_std: Sequence[float] | float = 1.0,
    ) -> None:
        super().__init__()
        self.backbone = AlexNet()
        for name, value, learn in (("scale", scale, learn_scale), ("bias", bias, learn_bias)):
            tensor = torch.tensor(float(value))
            if not bool(torch.isfinite(tensor)):
                raise ValueError(f"{name}: got {value!r}, expected a finite number")
            if learn:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)
        std = _three(input_std, "input_std")
        if not bool((std > 0).all()):
            raise ValueError(f"input_std: got {input_std!r}, expected numbers above 0")
        self.register_buffer("input_mean", _three(input_mean, "input_mean"))
        self.register_buffer("input_std", std)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """images: (N, 3, H, W), RGB 0..255, uint8 or floating -> the backbone's input, floating."""
        if not images.is_floating_point():
            images = images.to(self.input_mean.dtype)
        return (images - self.input_mean) / self.input_std

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """images: (N, 3, H, W), RGB 0..255 -> features (N, 256, h, w)."""
        return self.backbone(self.normalise(images))

    def forward(self, template: torch.Tensor, search: torch.Tensor) -> torch.Tensor:
        """The response (logits) of every search image to its template.

        Args:
            template: (Nz, 3, Hz, Wz), RGB 0..255; usually 127 x 127.
            search: (k * Nz, 3, Hx, Wx), RGB 0..255; usually 255 x 255. Search i goes with template i mod Nz.

        Returns:
            (k * Nz, 1, Ho, Wo); 17 x 17 for 127 and 255.

        Raises:
            ValueError: shapes that do not fit.
        """
        return xcorr(self.embed(template), self.embed(search), scale=self.scale, bias=self.bias)
