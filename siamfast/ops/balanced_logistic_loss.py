"""SiamFC's balanced logistic loss, its labels made on the fly."""

from __future__ import annotations

import torch

from siamfast.reference import balanced_logistic_loss as reference


def balanced_logistic_loss(
    scores: torch.Tensor,
    labels: torch.Tensor | None = None,
    *,
    stride: float = 8,
    r_pos: float = 16,
    r_neg: float = 0,
    metric: str = "l1",
    neutral: str = "half",
    balance: str = "sample",
    neg_weight: float = 1.0,
    reduction: str = "mean",
    centers: torch.Tensor | None = None,
) -> torch.Tensor:
    scores = scores.float().flatten(0, -3)
    if labels is None:
        labels = reference.logistic_labels(
            (scores.shape[1], scores.shape[2]),
            stride=stride,
            r_pos=r_pos,
            r_neg=r_neg,
            metric=metric,
            centers=centers,
            device=scores.device,
        )
    losses = reference.balanced_logistic_loss(
        scores, labels.expand_as(scores), neutral=neutral, balance=balance, neg_weight=neg_weight
    )
    return losses.mean() if reduction == "mean" else losses
