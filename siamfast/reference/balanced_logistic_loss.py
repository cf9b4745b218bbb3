"""The specification of SiamFC's balanced logistic loss and of its labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def logistic_labels(
    size: tuple[int, int],
    *,
    stride: float,
    r_pos: float,
    r_neg: float,
    metric: str,
    centers: torch.Tensor | None = None,  # (N, 2) x, y in cells; None: the middle of the map
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> torch.Tensor:  # (H, W), or (N, H, W) with centers
    """1 within r_pos input pixels of the centre, 0 beyond max(r_neg, r_pos), 0.5 between them."""
    height, width = size
    y = torch.arange(height, dtype=dtype, device=device)[:, None]
    x = torch.arange(width, dtype=dtype, device=device)
    if centers is None:
        dy, dx = y - (height - 1) / 2, x - (width - 1) / 2
    else:
        centers = centers.to(dtype)
        dy, dx = y - centers[:, 1, None, None], x - centers[:, 0, None, None]
    distance = stride * (dx.abs() + dy.abs() if metric == "l1" else (dx * dx + dy * dy).sqrt())
    neutral = torch.where(distance <= max(r_neg, r_pos), 0.5, 0.0)
    return torch.where(distance <= r_pos, 1.0, neutral).to(dtype)


def balanced_logistic_loss(
    scores: torch.Tensor,  # (N, H, W)
    labels: torch.Tensor,  # (N, H, W), 1 positive, 0 negative, between them soft or neutral
    *,
    neutral: str,
    balance: str,
    neg_weight: float,
) -> torch.Tensor:  # (N,) the loss of each sample
    """sum over cells of weight * BCE-with-logits(score, label); positives share 1/2, negatives share 1/2."""
    positive, negative = (labels == 1).to(scores.dtype), (labels == 0).to(scores.dtype)
    cells = (0, 1, 2) if balance == "batch" else (1, 2)
    share = scores.shape[0] if balance == "batch" else 1
    weights = 0.5 * share * positive / positive.sum(cells, keepdim=True).clamp_min(1)
    weights = weights + 0.5 * share * neg_weight * negative / negative.sum(cells, keepdim=True).clamp_min(1)
    if neutral == "one":
        weights = weights + (1 - positive - negative)
    losses = F.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    return torch.where(weights > 0, weights * losses, 0.0).sum((1, 2))
