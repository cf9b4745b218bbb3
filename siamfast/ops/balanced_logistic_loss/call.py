"""The options of the loss's raw op by name, and the meaning of its codes."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import torch

from siamfast.ops.balanced_logistic_loss import reference


class Metric(IntEnum):
    """The distance of a cell from the centre."""

    L1 = 0
    L2 = 1


class Neutral(IntEnum):
    """The effect of cells between the radii."""

    HALF = 0
    IGNORE = 1
    HALF_WEIGHTED = 2


class Balance(IntEnum):
    """The set of cells over which positives and negatives are balanced."""

    SAMPLE = 0
    BATCH = 1
    CELLS = 2


class Reduction(IntEnum):
    """The reduction of the samples' losses."""

    MEAN = 0
    SUM = 1
    NONE = 2


# The public options' names, by code.
METRIC = ("l1", "l2")
NEUTRAL = ("half", "ignore", "half-weighted")
BALANCE = ("sample", "batch", "cells")
REDUCTION = ("mean", "sum", "none")


class Options(NamedTuple):
    """The options of the raw op and the C++ kernels."""

    stride: float
    r_pos: float
    r_neg: float
    neg_weight: float
    metric: int  # a Metric; the next ones are codes too
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
        """Apply the reduction to losses (N,)."""
        if self.reduction == Reduction.NONE:
            return losses
        return losses.sum() / max(losses.shape[0], 1) if self.reduction == Reduction.MEAN else losses.sum()

    def factor(self, samples: int) -> float:
        """The factor of each sample's loss in the result."""
        return 1 / max(samples, 1) if self.reduction == Reduction.MEAN else 1.0


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which the loss of scores of `dtype` is computed."""
    return torch.float64 if dtype == torch.float64 else torch.float32
