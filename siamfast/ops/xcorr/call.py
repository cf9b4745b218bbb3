"""The arguments of the correlations' raw ops, by name."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Numbers(NamedTuple):
    """The raw op's arguments that are not tensors.

    A trained factor or bias is a tensor; a constant one is a number here, so that a call without gradients makes no
    tensor of it. A tensor replaces its number.
    """

    scale_constant: float
    bias_constant: float
    pad_y: int
    pad_x: int
    all_pairs: bool  # every search goes with every template; else each with its own


class XcorrCall(NamedTuple):
    """The arguments of the raw op."""

    z: torch.Tensor  # (Nz, O*C, Hz, Wz)
    x: torch.Tensor  # (Nx, C, Hx, Wx)
    scale: torch.Tensor | None  # 1 or O elements
    bias: torch.Tensor | None  # 1 or O elements
    numbers: Numbers

    @classmethod
    def of(cls, z: Any, x: Any, scale: Any, bias: Any, *numbers: Any) -> XcorrCall:
        """From the raw op's flat arguments."""
        return cls(z, x, scale, bias, Numbers(*numbers))

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        return self.z, self.x, self.scale, self.bias

    @property
    def per_template(self) -> int:
        """O, the kernels of a template."""
        return self.z.shape[1] // self.x.shape[1]

    @property
    def outputs(self) -> int:
        """The maps of a response: O, or Nz*O for all pairs."""
        return self.per_template * (self.z.shape[0] if self.numbers.all_pairs else 1)

    @property
    def response_size(self) -> tuple[int, int]:
        """(Ho, Wo)."""
        (_, _, hz, wz), (_, _, height, width), numbers = self.z.shape, self.x.shape, self.numbers
        return height + 2 * numbers.pad_y - hz + 1, width + 2 * numbers.pad_x - wz + 1


class DepthwiseCall(NamedTuple):
    """The arguments of the raw op of the depthwise correlation."""

    z: torch.Tensor  # (Nz, C, Hz, Wz)
    x: torch.Tensor  # (Nx, C, Hx, Wx)
    pad_y: int
    pad_x: int

    @property
    def response_shape(self) -> tuple[int, int, int, int]:
        """(Nx, C, Ho, Wo)."""
        (_, _, hz, wz), (searches, channels, height, width) = self.z.shape, self.x.shape
        return searches, channels, height + 2 * self.pad_y - hz + 1, width + 2 * self.pad_x - wz + 1
