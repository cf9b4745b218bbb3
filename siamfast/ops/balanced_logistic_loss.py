"""SiamFC's balanced logistic loss, its labels made on the fly; and the same joined to the correlation."""

from __future__ import annotations

from functools import lru_cache
from numbers import Real
from typing import Any

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from siamfast.ops import _backend
from siamfast.ops import _balanced_logistic_loss_raw as raw
from siamfast.ops.xcorr import Padding, xcorr
from siamfast.reference import balanced_logistic_loss as reference

_NEUTRAL = ("half", "ignore", "half-weighted")
_BALANCE = ("sample", "batch")
_METRIC = ("l1", "l2")
_REDUCTION = ("mean", "sum", "none")


def can_run(backend: str, device_type: str, dtype: torch.dtype, *, raise_error: bool = False) -> bool:
    """Whether `backend` serves the loss on this device and dtype."""
    return _backend.can_run(_backend.plain_reason, backend, device_type, dtype, raise_error)


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
        stride: input pixels a cell.
        r_pos, r_neg: radii in input pixels: 1 within r_pos, 0 beyond max(r_neg, r_pos).
        metric: "l1", |dx| + |dy| (the seed), or "l2", Euclidean (the paper).
        neutral: the label between the radii: "half" and "half-weighted" 0.5, "ignore" -1.
        centers: (N, 2) x, y of the target in cells for a map each; None: the middle of the map.
        dtype, device: of the result.

    Returns:
        (H, W), or (N, H, W) with `centers`.

    Raises:
        TypeError, ValueError: for what does not fit, naming the argument.

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
    _check_options(stride, r_pos, r_neg, metric, neutral)
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
    reduction: str = "mean",
    centers: torch.Tensor | None = None,
) -> torch.Tensor:
    """The logistic loss of a response map in which positives and negatives weigh the same.

    ``loss[n] = sum_cells w * (max(s, 0) - s*y + log(1 + exp(-|s|)))`` (Bertinetto et al. 2016, eq. 2 and 3), stable for
    any finite score. Value and score gradient are computed together; backward only scales.

    Args:
        scores: (N, 1, H, W) or (N, H, W) logits; under autocast, as always, the loss is computed in float32 (float64
            for float64).
        labels: (H, W) or the scores' shape: 1 positive, 0 negative, -1 ignored, between 0 and 1 neutral. None: made on
            the fly by `logistic_labels` with the options below.
        stride, r_pos, r_neg, metric, centers: as for `logistic_labels`, centers (N, 2). A centre far outside the map
            makes a pair negative: all its labels are 0.
        neutral: "half" or "ignore": neutral cells weigh 0. "half-weighted": they weigh 1 with their label (bilylee's
            SiamFC-TensorFlow, and the seed by accident).
        balance: "sample": in each sample positives share 1/2, negatives neg_weight/2; where there are no positives the
            negatives keep their share. "batch": the counts are those of the whole batch and all weights sum to 1
            (siamfc-pytorch's BalancedLoss).
        neg_weight: factor of the negatives.
        reduction: "mean" over samples, "sum" over samples, or "none".

    Returns:
        a scalar, or (N,) for "none"; float32 (float64 for float64 scores). 0 for N = 0.

    Raises:
        TypeError, ValueError: for what does not fit, naming the argument.

    >>> import torch, siamfast
    >>> round(siamfast.balanced_logistic_loss(torch.zeros(8, 1, 17, 17)).item(), 4)
    0.6931
    """
    if not isinstance(scores, torch.Tensor):
        raise TypeError(f"scores: got {type(scores).__name__}, expected a torch.Tensor")
    if not scores.is_floating_point():
        raise TypeError(f"scores: got dtype {scores.dtype}, expected a floating dtype")
    if scores.dim() not in (3, 4) or (scores.dim() == 4 and scores.shape[1] != 1):
        raise ValueError(f"scores: got shape {tuple(scores.shape)}, expected (N, 1, H, W) or (N, H, W)")
    _check_options(stride, r_pos, r_neg, metric, neutral)
    for name, value, choices in (("balance", balance, _BALANCE), ("reduction", reduction, _REDUCTION)):
        if value not in choices:
            raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(choices)}")
    _check_number("neg_weight", neg_weight)
    maps = scores.squeeze(1) if scores.dim() == 4 else scores
    maps = maps if maps.dtype == torch.float64 else maps.float()
    weighing: dict[str, Any] = {"neutral": neutral, "balance": balance, "neg_weight": float(neg_weight)}
    if labels is None and centers is None:
        shape = (maps.shape[1], maps.shape[2])
        make = _cached_cells if _may_cache(maps) else _shared_cells
        cells = make(shape, stride, r_pos, r_neg, metric, maps.dtype, maps.device, **weighing)
    else:
        given = _labels(maps, scores, labels, stride, r_pos, r_neg, metric, neutral, centers)
        cells = given.clamp_min(0), reference.cell_weights(given, **weighing)
    losses = raw.sample_losses(maps, *cells)
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / max(scores.shape[0], 1)


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
        scores,
        labels,
        stride=stride,
        r_pos=r_pos,
        r_neg=r_neg,
        metric=metric,
        neutral=neutral,
        balance=balance,
        neg_weight=neg_weight,
        reduction=reduction,
        centers=centers,
    )
    return (loss, scores.detach()) if return_scores else loss


# -------------------------------------------------------------------------------------------------------------- checks
def _check_options(stride: float, r_pos: float, r_neg: float, metric: str, neutral: str) -> None:
    for name, choice, choices in (("metric", metric, _METRIC), ("neutral", neutral, _NEUTRAL)):
        if choice not in choices:
            raise ValueError(f"{name}: got {choice!r}, expected one of {', '.join(choices)}")
    for name, value in (("stride", stride), ("r_pos", r_pos), ("r_neg", r_neg)):
        _check_number(name, value)
    if stride == 0:
        raise ValueError(f"stride: got {stride!r}, expected more than 0")


def _check_number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: got {value!r}, expected a number")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name}: got {value!r}, expected 0 or more")


def _check_centers(centers: torch.Tensor, count: int | None) -> None:
    if not isinstance(centers, torch.Tensor) or not centers.is_floating_point():
        raise TypeError(f"centers: got {type(centers).__name__}, expected a floating torch.Tensor")
    if centers.dim() != 2 or centers.shape[1] != 2 or (count is not None and centers.shape[0] != count):
        raise ValueError(f"centers: got shape {tuple(centers.shape)}, expected ({'N' if count is None else count}, 2)")


def _shared_cells(
    shape: tuple[int, int], stride: float, r_pos: float, r_neg: float, metric: str, dtype: torch.dtype,
    device: torch.device, *, neutral: str, balance: str, neg_weight: float,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Targets and weights (1, H, W) that all samples share: with equal counts both balances agree on it."""
    labels = reference.logistic_labels(
        shape, stride=stride, r_pos=r_pos, r_neg=r_neg, metric=metric, neutral=neutral, centers=None, dtype=dtype,
        device=device,
    )[None]  # fmt: skip
    weights = reference.cell_weights(labels, neutral=neutral, balance=balance, neg_weight=neg_weight)
    return labels.clamp_min(0), weights


@lru_cache(maxsize=32)
def _cached_cells(*args: Any, **weighing: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A trainer asks for the same map in every step; making it takes ten times as long as the loss."""
    with torch.inference_mode(False):  # tensors of inference mode could not be saved for a backward later
        return _shared_cells(*args, **weighing)


def _may_cache(maps: torch.Tensor) -> bool:
    """Not what a graph records: what is made while tracing, under a fake mode or in a CUDA capture dies with it."""
    if torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None:
        return False
    return not (maps.is_cuda and torch.cuda.is_current_stream_capturing())


def _labels(
    maps: torch.Tensor,
    scores: torch.Tensor,
    labels: torch.Tensor | None,
    stride: float,
    r_pos: float,
    r_neg: float,
    metric: str,
    neutral: str,
    centers: torch.Tensor | None,
) -> torch.Tensor:
    """(1 or N, H, W), the maps' dtype."""
    if labels is None:
        assert centers is not None
        _check_centers(centers, maps.shape[0])
        return reference.logistic_labels(
            (maps.shape[1], maps.shape[2]),
            stride=stride,
            r_pos=r_pos,
            r_neg=r_neg,
            metric=metric,
            neutral=neutral,
            centers=centers,
            dtype=maps.dtype,
            device=maps.device,
        )
    if centers is not None:
        raise ValueError("centers: got both centers and labels, expected one of them")
    if not isinstance(labels, torch.Tensor):
        raise TypeError(f"labels: got {type(labels).__name__}, expected a torch.Tensor")
    if labels.shape not in (scores.shape, maps.shape, maps.shape[1:]):
        raise ValueError(f"labels: got shape {tuple(labels.shape)}, expected {tuple(scores.shape)} or (H, W)")
    if labels.device != maps.device:
        raise ValueError(f"labels: got device {labels.device}, expected the scores' {maps.device}")
    if labels.requires_grad:
        raise ValueError("labels: got a tensor that requires a gradient; the loss has none for its labels")
    labels = labels.to(maps.dtype)
    return labels.squeeze(1) if labels.dim() == 4 else labels if labels.dim() == 3 else labels[None]
