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
    neutral: str,
    centers: torch.Tensor | None,  # (N, 2) x, y in cells; None: the middle of the map
    dtype: torch.dtype,
    device: torch.device | str | None,
) -> torch.Tensor:  # (H, W), or (N, H, W) with centers
    """1 within r_pos input pixels of the centre, 0 beyond max(r_neg, r_pos), between them 0.5, or -1 for "ignore"."""
    height, width = size
    y = torch.arange(height, dtype=dtype, device=device)[:, None]
    x = torch.arange(width, dtype=dtype, device=device)
    if centers is None:
        dy, dx = y - (height - 1) / 2, x - (width - 1) / 2
    else:
        centers = centers.to(dtype)
        dy, dx = y - centers[:, 1, None, None], x - centers[:, 0, None, None]
    distance = stride * (dx.abs() + dy.abs() if metric == "l1" else (dx * dx + dy * dy).sqrt())
    between = torch.full_like(distance, -1.0 if neutral == "ignore" else 0.5)
    labels = torch.where(distance <= max(r_neg, r_pos), between, torch.zeros_like(distance))
    return torch.where(distance <= r_pos, torch.ones_like(distance), labels)


def cell_weights(labels: torch.Tensor, *, neutral: str, balance: str, neg_weight: float) -> torch.Tensor:
    """labels: (N, H, W), 1 positive, 0 negative, -1 ignored, between 0 and 1 neutral -> the weight of each cell.

    "sample": in each sample the positives share 1/2 and the negatives share neg_weight/2.
    "batch" (siamfc-pytorch): the positives of the whole batch share 1, its negatives neg_weight, and all is divided by
    its sum; times N, so that the mean over samples is their sum.
    """
    positive, negative = (labels == 1).to(labels.dtype), (labels == 0).to(labels.dtype)
    cells = (0, 1, 2) if balance == "batch" else (1, 2)
    positives, negatives = positive.sum(cells, keepdim=True), negative.sum(cells, keepdim=True)
    weights = positive / positives.clamp_min(1) + neg_weight * negative / negatives.clamp_min(1)
    if balance == "batch":
        total = (positives > 0).to(labels.dtype) + neg_weight * (negatives > 0).to(labels.dtype)
        weights = labels.shape[0] * weights / torch.where(total > 0, total, torch.ones_like(total))
    else:
        weights = weights / 2
    if neutral == "half-weighted":
        weights = weights + ((labels > 0) & (labels < 1)).to(labels.dtype)
    return weights


def balanced_logistic_loss(
    scores: torch.Tensor,  # (N, H, W)
    targets: torch.Tensor,  # (1 or N, H, W) labels within 0..1
    weights: torch.Tensor,  # (1 or N, H, W) of `cell_weights`
) -> torch.Tensor:  # (N,) the loss of each sample
    """sum over cells of weight * BCE-with-logits(score, label); a cell of weight 0 counts for nothing, nan or not."""
    losses = F.binary_cross_entropy_with_logits(scores, targets.expand_as(scores), reduction="none")
    return torch.where(weights != 0, weights * losses, torch.zeros_like(losses)).sum((1, 2))
