"""How the loss's raw op is called: its options by name, and what its numbers stand for."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from siamfast.ops.balanced_logistic_loss import reference

METRIC = ("l1", "l2")
NEUTRAL = ("half", "ignore", "half-weighted")
BALANCE = ("sample", "batch", "cells")
REDUCTION = ("mean", "sum", "none")


class Options(NamedTuple):
    """As the raw ops take them: numbers, and places in the tuples above."""

    stride: float
    r_pos: float
    r_neg: float
    neg_weight: float
    metric: int
    neutral: int
    balance: int
    reduction: int

    @property
    def weighing(self) -> dict[str, Any]:
        return {
            "neutral": NEUTRAL[self.neutral],
            "balance": BALANCE[self.balance],
            "neg_weight": self.neg_weight,
        }

    def made_labels(
        self, shape: tuple[int, int], centers: torch.Tensor | None, dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:  # (1 or N, H, W)
        labels = reference.logistic_labels(
            shape, stride=self.stride, r_pos=self.r_pos, r_neg=self.r_neg, metric=METRIC[self.metric],
            neutral=NEUTRAL[self.neutral], centers=centers, dtype=dtype, device=device,
        )  # fmt: skip
        return labels if labels.dim() == 3 else labels[None]

    def reduced(self, losses: torch.Tensor) -> torch.Tensor:
        """(N,) -> what the reduction says."""
        if REDUCTION[self.reduction] == "none":
            return losses
        return losses.sum() / max(losses.shape[0], 1) if REDUCTION[self.reduction] == "mean" else losses.sum()

    def factor(self, samples: int) -> float:
        """Of each sample's loss in the result."""
        return 1 / max(samples, 1) if REDUCTION[self.reduction] == "mean" else 1.0


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What the loss of scores of this dtype is computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32
