"""SiamFC's head and loss in one call: the correlation, the balanced logistic loss, and the way back to z and x."""

from __future__ import annotations

import torch

from siamfast.ops.balanced_logistic_loss import balanced_logistic_loss
from siamfast.ops.xcorr import Padding, xcorr


def xcorr_balanced_loss(
    z: torch.Tensor,
    x: torch.Tensor,
    *,
    scale: float | torch.Tensor = 1.0,
    bias: float | torch.Tensor | None = None,
    padding: Padding = 0,
    labels: torch.Tensor | None = None,
    stride: float = 8,
    r_pos: float = 16,
    r_neg: float = 0,
    metric: str = "l1",
    neutral: str = "half",
    balance: str = "sample",
    neg_weight: float = 1.0,
    gamma: float = 0.0,
    hard_negatives: float | None = None,
    reduction: str = "mean",
    centers: torch.Tensor | None = None,
    return_scores: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """`balanced_logistic_loss(xcorr(z, x, ...), ...)` of one template kernel: SiamFC's head and loss in one call.

    Args:
        z, x, scale, bias, padding: as for `xcorr`, with one kernel a template.
        labels ... centers: as for `balanced_logistic_loss`.
        return_scores: also return the response (N, 1, Ho, Wo), without a gradient.

    Returns:
        the loss, or (loss, scores).

    Raises:
        TypeError, ValueError: for what does not fit, naming the argument.

    >>> import torch, siamfast
    >>> z, x = torch.randn(2, 256, 6, 6), torch.randn(2, 256, 22, 22)
    >>> siamfast.xcorr_balanced_loss(z, x, scale=1e-3).dim()
    0
    """
    both = isinstance(z, torch.Tensor) and isinstance(x, torch.Tensor) and z.dim() == x.dim() == 4
    if both and z.shape[1] != x.shape[1]:
        raise ValueError(f"z: got {z.shape[1]} channels, expected x's {x.shape[1]}: one kernel a template")
    scores = xcorr(z, x, scale=scale, bias=bias, padding=padding)
    loss = balanced_logistic_loss(
        scores, labels, stride=stride, r_pos=r_pos, r_neg=r_neg, metric=metric, neutral=neutral, balance=balance,
        neg_weight=neg_weight, gamma=gamma, hard_negatives=hard_negatives, reduction=reduction, centers=centers,
    )  # fmt: skip
    return (loss, scores.detach()) if return_scores else loss
