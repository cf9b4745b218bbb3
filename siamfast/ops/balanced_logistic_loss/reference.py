"""The specification of SiamFC's balanced logistic loss, of its labels, and of the losses that trackers use instead."""

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
    "batch" (siamfc-pytorch): the positives of the whole batch share 1, its negatives neg_weight, and all weights are
    divided by their sum; times N, so that the mean over samples is their sum.
    "cells": each positive of the batch weighs 1, each negative neg_weight; then as for "batch".
    """
    positive, negative = (labels == 1).to(labels.dtype), (labels == 0).to(labels.dtype)
    cells = (1, 2) if balance == "sample" else (0, 1, 2)
    positives, negatives = positive.sum(cells, keepdim=True), negative.sum(cells, keepdim=True)
    if balance == "cells":
        weights, total = positive + neg_weight * negative, positives + neg_weight * negatives
    else:
        weights = positive / positives.clamp_min(1) + neg_weight * negative / negatives.clamp_min(1)
        total = (positives > 0).to(labels.dtype) + neg_weight * (negatives > 0).to(labels.dtype)
    if balance == "sample":
        weights = weights / 2
    else:
        weights = labels.shape[0] * weights / torch.where(total > 0, total, torch.ones_like(total))
    if neutral == "half-weighted":
        weights = weights + ((labels > 0) & (labels < 1)).to(labels.dtype)
    return weights


def focused(
    weights: torch.Tensor, scores: torch.Tensor, targets: torch.Tensor, *, gamma: float, balance: str
) -> torch.Tensor:  # (N, H, W)
    """The weights times (1 - p)^gamma for targets of 1 and p^gamma for targets of 0, scaled to keep their sum per
    sample or over the batch."""
    # exp of a log: p^gamma by itself has no finite derivative at p = 0 for gamma < 1.
    hard = targets * (gamma * F.logsigmoid(-scores)).exp() + (1 - targets) * (gamma * F.logsigmoid(scores)).exp()
    weights = weights.expand_as(scores)
    focused_weights = torch.where(weights != 0, weights * hard, torch.zeros_like(scores))
    cells = (1, 2) if balance == "sample" else (0, 1, 2)
    before, after = weights.sum(cells, keepdim=True), focused_weights.sum(cells, keepdim=True)
    return focused_weights * (before / after.clamp_min(torch.finfo(scores.dtype).tiny))


def hard_negatives(
    labels: torch.Tensor,  # (1 or N, H, W)
    scores: torch.Tensor,  # (N, H, W)
    *,
    ratio: float,
    balance: str,
) -> torch.Tensor:  # (N, H, W)
    """The labels, with -1 (ignored) for all negatives except the ratio * positives with the highest scores, per sample
    or over the batch. Without a positive the `ratio` hardest remain."""
    labels = labels.expand_as(scores)
    first = 1 if balance == "sample" else 0
    flat, score = labels.flatten(first), scores.detach().flatten(first)
    negative = flat == 0
    # By place in the sorted row, so that the lower of two equal scores' indices comes first.
    order = torch.where(negative, score, -torch.inf).sort(dim=-1, descending=True, stable=True).indices
    place = order.argsort(dim=-1)
    count = (ratio * (flat == 1).sum(-1, keepdim=True).clamp_min(1)).floor()
    return torch.where(negative & (place >= count), -1.0, flat).reshape(labels.shape)


def balanced_logistic_loss(
    scores: torch.Tensor,  # (N, H, W)
    labels: torch.Tensor,  # (1 or N, H, W): 1, 0, -1 ignored, between 0 and 1 neutral
    *,
    neutral: str,
    balance: str,
    neg_weight: float,
    gamma: float = 0.0,
) -> torch.Tensor:  # (N,) the loss of each sample
    """sum over cells of weight * BCE-with-logits(score, label); a cell of weight 0 does not count, even if it is
    nan."""
    targets = labels.clamp_min(0).expand_as(scores)
    weights = cell_weights(labels, neutral=neutral, balance=balance, neg_weight=neg_weight)
    if gamma:
        weights = focused(weights, scores, targets, gamma=gamma, balance=balance)
    # Not binary_cross_entropy_with_logits: a negative cell that is right cancels to 0 there, and vmap has no rule.
    losses = -(targets * F.logsigmoid(scores) + (1 - targets) * F.logsigmoid(-scores))
    return torch.where(weights != 0, weights * losses, torch.zeros_like(losses)).sum((1, 2))
