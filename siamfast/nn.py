"""The ops as thin modules, with trained values as their only state."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from siamfast.ops.balanced_logistic_loss import balanced_logistic_loss
from siamfast.ops.correspondence_warp import correspondence_warp
from siamfast.ops.xcorr import Padding, xcorr


class XCorr(nn.Module):
    """`siamfast.xcorr` with a factor and a bias that may be trained.

    Args:
        scale, bias: their initial values.
        learn_scale, learn_bias: whether they are parameters or buffers.
        padding, pairing: as for `siamfast.xcorr`.

    >>> import torch
    >>> XCorr(scale=1e-3)(torch.randn(2, 8, 6, 6), torch.randn(2, 8, 22, 22)).shape
    torch.Size([2, 1, 17, 17])
    """

    scale: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self,
        *,
        scale: float = 1.0,
        bias: float = 0.0,
        learn_scale: bool = False,
        learn_bias: bool = False,
        padding: Padding = 0,
        pairing: str = "cycle",
    ) -> None:
        super().__init__()
        for name, value, learn in (("scale", scale, learn_scale), ("bias", bias, learn_bias)):
            tensor = torch.tensor(float(value))
            if learn:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)
        self.padding, self.pairing = padding, pairing

    def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """z: (Nz, O*C, Hz, Wz), x: (Nx, C, Hx, Wx) -> (Nx, O or Nz*O, Ho, Wo)."""
        return xcorr(z, x, scale=self.scale, bias=self.bias, padding=self.padding, pairing=self.pairing)


class BalancedLogisticLoss(nn.Module):
    """`siamfast.balanced_logistic_loss` with its options fixed.

    >>> import torch
    >>> round(float(BalancedLogisticLoss(r_pos=16)(torch.zeros(1, 1, 17, 17))), 4)
    0.6931
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        balanced_logistic_loss(torch.zeros(1, 1, 3, 3), **options)  # wrong options fail here, not in the first step
        self.options = options

    def forward(
        self, scores: torch.Tensor, labels: torch.Tensor | None = None, centers: torch.Tensor | None = None
    ) -> torch.Tensor:
        """scores: (N, 1, H, W) or (N, H, W), labels: the same or (H, W), centers: (N, 2) -> loss."""
        return balanced_logistic_loss(scores, labels, centers=centers, **self.options)


class CorrespondenceWarp(nn.Module):
    """`siamfast.correspondence_warp` with its options fixed.

    >>> import torch
    >>> CorrespondenceWarp(topk=3)(*[torch.randn(1, 8, 5, 5)] * 2, torch.rand(1, 1, 5, 5)).shape
    torch.Size([1, 1, 5, 5])
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(
        self, query: torch.Tensor, reference: torch.Tensor, values: torch.Tensor, key_bias: torch.Tensor | None = None
    ) -> Any:
        """query: (N, C, Hq, Wq), reference: (N, [T,] C, Hr, Wr), values: (N, [T,] K, Hr, Wr) -> (N, K, Hq, Wq)."""
        return correspondence_warp(query, reference, values, key_bias=key_bias, **self.options)
