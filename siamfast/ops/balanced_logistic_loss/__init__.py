"""SiamFC's balanced logistic loss, with labels made on the fly, and the losses that other trackers use instead."""

from __future__ import annotations

from numbers import Real

import torch
from torch.overrides import handle_torch_function, has_torch_function_variadic

from siamfast.ops import dispatch
from siamfast.ops.balanced_logistic_loss import autograd as raw
from siamfast.ops.balanced_logistic_loss import reference
from siamfast.ops.balanced_logistic_loss.call import BALANCE, METRIC, NEUTRAL, REDUCTION, Options, sum_dtype


def can_run(backend: str, device_type: str, dtype: torch.dtype, *, raise_error: bool = False) -> bool:
    """Whether `backend` serves the loss on this device and dtype."""
    return dispatch.can_run(backend, device_type, dtype, raise_error)


# ---------------------------------------------------------------------------------------------------- public functions
def logistic_labels(
    size: int | tuple[int, int],
    *,
    stride: float = 8,
    r_pos: float = 16,
    r_neg: float = 0,
    metric: str = "l1",
    neutral: str = "half",
    centers: torch.Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """SiamFC's label map: 1 near the target, 0 far from it (Bertinetto et al. 2016, eq. 4).

    Args:
        size: side of the square response map in cells, or (H, W).
        stride: input pixels per cell.
        r_pos, r_neg: radii in input pixels: 1 within r_pos, 0 beyond max(r_neg, r_pos).
        metric: "l1", ``|dx| + |dy|`` (siamfc-pytorch), or "l2", Euclidean (the paper).
        neutral: the label between the radii: "half" and "half-weighted" 0.5, "ignore" -1.
        centers: (N, 2) x, y of the target in cells, one map per centre; None: the middle of the map.
        dtype, device: of the result.

    Returns:
        (H, W), or (N, H, W) with `centers`.

    Raises:
        TypeError, ValueError: an argument that does not fit, by its name.

    >>> logistic_labels(5, stride=8, r_pos=8).int().tolist()[2]
    [0, 1, 1, 1, 0]
    """
    sides = (size, size) if isinstance(size, int) else size
    if not isinstance(sides, (tuple, list)) or len(sides) != 2 or not all(isinstance(s, int) for s in sides):
        raise TypeError(f"size: got {size!r}, expected a whole number or (H, W)")
    height, width = sides
    if min(height, width) < 1:
        raise ValueError(f"size: got {size!r}, expected 1 or more")
    if not dtype.is_floating_point:
        raise TypeError(f"dtype: got {dtype}, expected a floating dtype")
    check_options(stride, r_pos, r_neg, metric, neutral)
    if centers is not None:
        _check_centers(centers, None)
        device = centers.device if device is None else device
    return reference.logistic_labels(
        (height, width),
        stride=stride,
        r_pos=r_pos,
        r_neg=r_neg,
        metric=metric,
        neutral=neutral,
        centers=centers,
        dtype=dtype,
        device=device,
    )


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
    gamma: float = 0.0,
    hard_negatives: float | None = None,
    reduction: str = "mean",
    centers: torch.Tensor | None = None,
) -> torch.Tensor:
    """The logistic loss of a response map, with equal weight for positives and negatives.

    ``loss[n] = sum_cells w * (max(s, 0) - s*y + log(1 + exp(-|s|)))`` (Bertinetto et al. 2016, eq. 2 and 3), stable for
    any finite score. Value and score gradient are computed together; backward only scales.

    Args:
        scores: (N, 1, H, W) or (N, H, W) logits; also under autocast, the loss is computed in float32 (float64 for
            float64).
        labels: (H, W) or the scores' shape: 1 positive, 0 negative, -1 ignored, between 0 and 1 neutral. None: made on
            the fly by `logistic_labels` with the options below.
        stride, r_pos, r_neg, metric, centers: as for `logistic_labels`, centers (N, 2). A centre far outside the map
            makes a pair negative: all its labels are 0.
        neutral: "half" or "ignore": neutral cells weigh 0. "half-weighted": they weigh 1 with their label (bilylee's
            SiamFC-TensorFlow).
        balance: "sample": in each sample positives share 1/2, negatives neg_weight/2; without positives the negatives
            keep their share. "batch": the counts are those of the whole batch and all weights sum to 1
            (siamfc-pytorch's BalancedLoss). "cells": no balance, every labelled cell of the batch weighs the same.
        neg_weight: factor of the negatives.
        gamma: above 0, the focal loss (Lin et al. 2017): weights times (1 - p)^gamma for positives and p^gamma for
            negatives, scaled to keep their sum. 2 and balance="cells" are siamfc-pytorch's FocalLoss.
        hard_negatives: online hard negative mining: only this many negatives per positive count, those with the highest
            scores (per sample, or over the batch if the balance is the batch's); without a positive, this many. 3 and
            balance="cells" are siamfc-pytorch's OHNMLoss.
        reduction: "mean" over samples, "sum" over samples, or "none".

    Returns:
        A scalar, or (N,) for "none"; float32 (float64 for float64 scores). 0 for N = 0.

    Raises:
        TypeError, ValueError: an argument that does not fit, by its name.

    >>> import torch, siamfast
    >>> round(siamfast.balanced_logistic_loss(torch.zeros(8, 1, 17, 17)).item(), 4)
    0.6931
    """
    if has_torch_function_variadic(scores, labels, centers):
        return handle_torch_function(
            balanced_logistic_loss, (scores, labels, centers), scores, labels,
            stride=stride, r_pos=r_pos, r_neg=r_neg, metric=metric, neutral=neutral, balance=balance,
            neg_weight=neg_weight, gamma=gamma, hard_negatives=hard_negatives, reduction=reduction, centers=centers,
        )  # fmt: skip
    if not isinstance(scores, torch.Tensor):
        raise TypeError(f"scores: got {type(scores).__name__}, expected a torch.Tensor")
    if not scores.is_floating_point():
        raise TypeError(f"scores: got dtype {scores.dtype}, expected a floating dtype")
    if scores.dim() not in (3, 4) or (scores.dim() == 4 and scores.shape[1] != 1):
        raise ValueError(f"scores: got shape {tuple(scores.shape)}, expected (N, 1, H, W) or (N, H, W)")
    options = check_options(
        stride, r_pos, r_neg, metric, neutral, balance, neg_weight, gamma, hard_negatives, reduction
    )
    labels, centers = check_labels(tuple(scores.shape), scores.device, scores.dtype, labels, centers)
    if hard_negatives is None and not gamma:
        return raw.loss(scores, labels, centers, options)
    return _reweighed(scores, labels, centers, options, float(gamma), hard_negatives)


def _reweighed(
    scores: torch.Tensor, labels: torch.Tensor | None, centers: torch.Tensor | None, options: Options,
    gamma: float, hard_negatives: float | None,
) -> torch.Tensor:  # fmt: skip
    """Weights that depend on the scores: mined labels are passed to the op, focal weights have their own derivative."""
    maps = scores.squeeze(1) if scores.dim() == 4 else scores
    maps = maps.to(sum_dtype(scores.dtype))
    if labels is None:
        labels = options.made_labels((maps.shape[1], maps.shape[2]), centers, maps.dtype, maps.device)
    if hard_negatives is not None:
        labels = reference.hard_negatives(labels, maps, ratio=hard_negatives, balance=BALANCE[options.balance])
    if not gamma:
        return raw.loss(scores, labels, None, options)
    if (forced := dispatch.forced()) is not None:
        dispatch.can_run(forced, scores.device.type, scores.dtype, raise_error=True, reason=dispatch.plain_reason)
    return options.reduced(reference.balanced_logistic_loss(maps, labels, gamma=gamma, **options.weighing))


# -------------------------------------------------------------------------------------------------------------- checks
@dispatch.remembered
def check_options(
    stride: float, r_pos: float, r_neg: float, metric: str, neutral: str, balance: str = "sample",
    neg_weight: float = 1.0, gamma: float = 0.0, hard_negatives: float | None = None, reduction: str = "mean",
) -> Options:  # fmt: skip
    """The raw op's options, checked.

    Raises:
        TypeError, ValueError: an argument that does not fit, by its name.
    """
    for name, choice, choices in (
        ("metric", metric, METRIC), ("neutral", neutral, NEUTRAL), ("balance", balance, BALANCE),
        ("reduction", reduction, REDUCTION),
    ):  # fmt: skip
        if choice not in choices:
            raise ValueError(f"{name}: got {choice!r}, expected one of {', '.join(choices)}")
    numbers = {"stride": stride, "r_pos": r_pos, "r_neg": r_neg, "neg_weight": neg_weight, "gamma": gamma}
    if hard_negatives is not None:
        numbers["hard_negatives"] = hard_negatives
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name}: got {value!r}, expected a number")
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}: got {value!r}, expected 0 or more")
    if stride == 0:
        raise ValueError(f"stride: got {stride!r}, expected more than 0")
    return Options(
        float(stride), float(r_pos), float(r_neg), float(neg_weight), METRIC.index(metric), NEUTRAL.index(neutral),
        BALANCE.index(balance), REDUCTION.index(reduction),
    )  # fmt: skip


def _check_centers(centers: torch.Tensor, count: int | None) -> None:
    if not isinstance(centers, torch.Tensor) or not centers.is_floating_point():
        raise TypeError(f"centers: got {type(centers).__name__}, expected a floating torch.Tensor")
    if centers.dim() != 2 or centers.shape[1] != 2 or (count is not None and centers.shape[0] != count):
        raise ValueError(f"centers: got shape {tuple(centers.shape)}, expected ({'N' if count is None else count}, 2)")


def check_labels(
    shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, labels: torch.Tensor | None,
    centers: torch.Tensor | None,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
    """The raw op's labels (1 or N, H, W) and centers (N, 2) for scores of this shape; None stays None.

    Raises:
        TypeError, ValueError: an argument that does not fit, by its name.
    """
    dtype = sum_dtype(dtype)
    if labels is None:
        if centers is None:
            return None, None
        _check_centers(centers, shape[0])
        if centers.device != device:
            raise ValueError(f"centers: got device {centers.device}, expected the scores' {device}")
        if centers.requires_grad:
            raise ValueError("centers: got a tensor that requires a gradient; the loss has none for its labels")
        return None, centers.to(dtype)
    if centers is not None:
        raise ValueError("centers: got both centers and labels, expected one of them")
    if not isinstance(labels, torch.Tensor):
        raise TypeError(f"labels: got {type(labels).__name__}, expected a torch.Tensor")
    maps = (shape[0], *shape[-2:])
    if labels.shape not in (shape, maps, maps[1:]):
        raise ValueError(f"labels: got shape {tuple(labels.shape)}, expected {shape} or (H, W)")
    if labels.device != device:
        raise ValueError(f"labels: got device {labels.device}, expected the scores' {device}")
    if labels.requires_grad:
        raise ValueError("labels: got a tensor that requires a gradient; the loss has none for its labels")
    labels = labels.to(dtype)
    return (labels.squeeze(1) if labels.dim() == 4 else labels if labels.dim() == 3 else labels[None]), None
