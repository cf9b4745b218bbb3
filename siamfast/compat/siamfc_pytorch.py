"""siamfc-pytorch's head and losses under their own names: `from siamfast.compat.siamfc_pytorch import SiamFC`."""

from __future__ import annotations

import torch

from siamfast.ops.balanced_logistic_loss import balanced_logistic_loss as _loss
from siamfast.ops.xcorr import xcorr as _xcorr


def fast_xcorr(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`SiamFC._fast_xcorr`. z: (Nz, C, Hz, Wz), x: (k*Nz, C, Hx, Wx) -> (k*Nz, 1, Ho, Wo)."""
    return _xcorr(z, x)


class SiamFC(torch.nn.Module):
    """The head: out_scale * correlation."""

    def __init__(self, out_scale: float = 0.001) -> None:
        super().__init__()
        self.out_scale = out_scale

    def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """z: (Nz, C, Hz, Wz), x: (k*Nz, C, Hx, Wx) -> (k*Nz, 1, Ho, Wo)."""
        return _xcorr(z, x, scale=self.out_scale)


class BalancedLoss(torch.nn.Module):
    """All positives of the batch weigh 1 and all its negatives `neg_weight`; then all weights are scaled to sum 1."""

    def __init__(self, neg_weight: float = 1.0) -> None:
        super().__init__()
        self.neg_weight = neg_weight

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """input: (N, 1, H, W) logits, target: the same shape, 1 positive and 0 negative -> a scalar."""
        return _loss(input, target, balance="batch", neg_weight=self.neg_weight)


class FocalLoss(torch.nn.Module):
    """The focal loss (Lin et al. 2017), its weights scaled to a mean of 1."""

    def __init__(self, gamma: float = 2) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """input: (N, 1, H, W) logits, target: the same shape, 1 positive and 0 negative -> a scalar."""
        return _loss(input, target, balance="cells", gamma=self.gamma)


class OHNMLoss(torch.nn.Module):
    """Online hard negative mining: the `neg_ratio` hardest negatives per positive of the batch."""

    def __init__(self, neg_ratio: float = 3.0) -> None:
        super().__init__()
        self.neg_ratio = neg_ratio

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """input: (N, 1, H, W) logits, target: the same shape, 1 positive and 0 negative -> a scalar."""
        return _loss(input, target, balance="cells", hard_negatives=self.neg_ratio)
