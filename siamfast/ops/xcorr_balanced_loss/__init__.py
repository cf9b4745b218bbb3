"""SiamFC's head and loss in one call: the correlation, the balanced logistic loss, and the gradients of z and x."""

from __future__ import annotations

import torch
from torch.overrides import handle_torch_function, has_torch_function_variadic

from siamfast.ops.balanced_logistic_loss import balanced_logistic_loss, check_labels, check_options
from siamfast.ops.xcorr import Padding, make_call, run_call
from siamfast.ops.xcorr_balanced_loss import triton


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
    """`balanced_logistic_loss(xcorr(z, x, ...), ...)` for one template kernel: SiamFC's head and loss in one call.

    In training on a GPU the kernels of the two ops are launched by one autograd.Function, which takes the host less
    time. Elsewhere it is the two ops in turn, with equal results.

    Args:
        z, x: (Nz, C, Hz, Wz) templates and (Nx, C, Hx, Wx) searches, as for `xcorr` with one kernel per template.
        scale, bias, padding: as for `xcorr`.
        labels, stride, r_pos, r_neg, metric, neutral: as for `balanced_logistic_loss`.
        balance, neg_weight, gamma, hard_negatives, reduction, centers: as for `balanced_logistic_loss`.
        return_scores: also return the response (N, 1, Ho, Wo), without a gradient.

    Returns:
        The loss, or (loss, scores).

    Raises:
        TypeError, ValueError: an argument that does not fit, by its name.

    >>> import torch, siamfast
    >>> z, x = torch.randn(2, 256, 6, 6), torch.randn(2, 256, 22, 22)
    >>> siamfast.xcorr_balanced_loss(z, x, scale=1e-3).dim()
    0
    """
    given = z, x, scale, bias, labels, centers
    if has_torch_function_variadic(*given):
        return handle_torch_function(
            xcorr_balanced_loss, given, z, x, scale=scale, bias=bias, padding=padding, labels=labels,
            stride=stride, r_pos=r_pos, r_neg=r_neg, metric=metric, neutral=neutral, balance=balance,
            neg_weight=neg_weight, gamma=gamma, hard_negatives=hard_negatives, reduction=reduction, centers=centers,
            return_scores=return_scores,
        )  # fmt: skip
    both = isinstance(z, torch.Tensor) and isinstance(x, torch.Tensor) and z.dim() == x.dim() == 4
    if both and z.shape[1] != x.shape[1]:
        raise ValueError(f"z: got {z.shape[1]} channels, expected x's {x.shape[1]}: one kernel per template")
    call = make_call(z, x, scale, bias, padding)
    if gamma == 0 and hard_negatives is None and triton.serves(call):
        options = check_options(stride, r_pos, r_neg, metric, neutral, balance, neg_weight, 0.0, None, reduction)
        cells = call.x.shape[0], 1, *call.response_size
        loss, scores = triton.loss_and_scores(
            call, *check_labels(cells, call.x.device, call.x.dtype, labels, centers), options
        )
        return (loss, scores) if return_scores else loss
    scores = run_call(call)
    loss = balanced_logistic_loss(
        scores, labels, stride=stride, r_pos=r_pos, r_neg=r_neg, metric=metric, neutral=neutral, balance=balance,
        neg_weight=neg_weight, gamma=gamma, hard_negatives=hard_negatives, reduction=reduction, centers=centers,
    )  # fmt: skip
    return (loss, scores.detach()) if return_scores else loss
