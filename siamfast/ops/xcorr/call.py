"""How the correlation's raw op is called: its arguments by name."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Numbers(NamedTuple):
    """What the raw op takes beside tensors.

    A factor and a bias that are trained are tensors; those that are numbers stand here, so that a call without
    gradients makes no tensor of them. A tensor takes the place of its number.
    """

    scale_constant: float
    bias_constant: float
    pad_y: int
    pad_x: int
    all_pairs: bool  # every search with every template; else each with its own


class XcorrCall(NamedTuple):
    """The arguments of the raw op."""

    z: torch.Tensor  # (Nz, O*C, Hz, Wz)
    x: torch.Tensor  # (Nx, C, Hx, Wx)
    scale: torch.Tensor | None  # 1 or O elements
    bias: torch.Tensor | None  # 1 or O elements
    numbers: Numbers

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        return self.z, self.x, self.scale, self.bias
