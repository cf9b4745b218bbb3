"""Overlap, success and precision of tracked boxes against ground truth.

Frames without a ground truth (any nan) are left out of every figure.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamfast.geometry import box_centers

SUCCESS_THRESHOLDS = np.linspace(0.0, 1.0, 21)
PRECISION_THRESHOLDS = np.arange(51.0)
NORMALIZED_THRESHOLDS = np.linspace(0.0, 0.5, 51)


def _boxes(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected numbers of shape (T, 4), got {type(values).__name__} ({error})") from error
    if array.ndim == 1 and array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{name}: got shape {array.shape}, expected (T, 4) with x, y, w, h")
    return array


def _pair(boxes: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    predicted, true = _boxes(boxes, "boxes"), _boxes(truth, "truth")
    if len(predicted) != len(true):
        raise ValueError(f"boxes: got {len(predicted)} rows, expected {len(true)} as in truth")
    return predicted, true


def overlap(boxes: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union, frame by frame.

    Args:
        boxes, truth: (T, 4) x, y, w, h in pixels; same T.

    Returns:
        (T,) in 0..1; nan where the truth is absent (any nan in its row). A box that is nan or has no area overlaps
        nothing: 0.

    Raises:
        TypeError, ValueError: not numbers, or shapes that do not fit.

    >>> overlap([[0, 0, 10, 10], [0, 0, 10, 10]], [[5, 0, 10, 10], [20, 0, 5, 5]]).round(3)
    array([0.333, 0.   ])
    """
    predicted, true = _pair(boxes, truth)
    absent = np.asarray(np.isnan(true).any(axis=1))
    lost = np.logical_or(~np.isfinite(predicted).all(axis=1), (predicted[:, 2:] <= 0).any(axis=1))
    a, b = np.where(np.asarray(lost)[:, None], 0.0, predicted), np.where(absent[:, None], 0.0, true)
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=1)
    union = a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    iou[lost] = 0.0
    iou[absent] = np.nan
    return iou


def center_error(boxes: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Distance between centres in pixels: (T,); nan where the truth is absent, inf where the box is not finite.

    >>> center_error([[0, 0, 10, 10]], [[3, 4, 10, 10]])
    array([5.])
    """
    predicted, true = _pair(boxes, truth)
    with np.errstate(invalid="ignore"):
        apart = box_centers(predicted) - box_centers(true)
        distance = np.hypot(apart[:, 0], apart[:, 1])
    distance[~np.isfinite(predicted).all(axis=1)] = np.inf
    distance[np.isnan(true).any(axis=1)] = np.nan
    return distance


def normalized_error(boxes: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Distance between centres in sides of the true box: (T,); nan where the truth is absent, inf where the box is not
    finite.

    Source: Mueller et al. 2018, "TrackingNet", section 5.1: the distance along x in widths, along y in heights.

    >>> normalized_error([[0, 0, 10, 10]], [[3, 4, 10, 20]]).round(3)
    array([0.541])
    """
    predicted, true = _pair(boxes, truth)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = (box_centers(predicted) - box_centers(true)) / true[:, 2:]
        distance = np.hypot(apart[:, 0], apart[:, 1])
    distance[~np.isfinite(predicted).all(axis=1)] = np.inf
    distance[np.isnan(true).any(axis=1)] = np.nan
    return distance


class Scores(NamedTuple):
    """The figures of one run on one sequence (or on pooled frames of several).

    ao: average overlap (GOT-10k's AO). sr50, sr75: share of frames with overlap above 0.5, 0.75 (GOT-10k's SR).
    auc: area under the success curve (OTB). precision20: share of frames with the centre within 20 px (OTB).
    normalized_precision: mean over thresholds 0 to 0.5 of the share of frames whose normalised error is within them
    (TrackingNet, LaSOT). frames: number of frames that count.
    """

    ao: float
    sr50: float
    sr75: float
    auc: float
    precision20: float
    normalized_precision: float
    frames: int


def success_curve(overlaps: ArrayLike, thresholds: ArrayLike = SUCCESS_THRESHOLDS) -> NDArray[np.float64]:
    """Share of frames with an overlap above each threshold (strictly, as in OTB and GOT-10k); without nan frames.

    Source: Wu, Lim, Yang 2013, "Online Object Tracking: A Benchmark".

    >>> success_curve([0.2, 0.6, float("nan")], [0.0, 0.5, 1.0])
    array([1. , 0.5, 0. ])
    """
    values = np.asarray(overlaps, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    if values.size == 0:
        return np.full(np.shape(thresholds), np.nan)
    return (values[None, :] > np.asarray(thresholds, dtype=np.float64)[:, None]).mean(axis=1)


def precision_curve(errors: ArrayLike, thresholds: ArrayLike = PRECISION_THRESHOLDS) -> NDArray[np.float64]:
    """Share of frames with a centre error of at most each threshold in pixels; without nan frames.

    >>> precision_curve([3.0, 30.0], [5.0, 50.0])
    array([0.5, 1. ])
    """
    values = np.asarray(errors, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    if values.size == 0:
        return np.full(np.shape(thresholds), np.nan)
    return (values[None, :] <= np.asarray(thresholds, dtype=np.float64)[:, None]).mean(axis=1)


def roc_auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve: the probability that a positive scores above a negative, with ties counted half.

    Computed by ranks (the Mann-Whitney U statistic). Fawcett 2006, "An introduction to ROC analysis".

    Args:
        scores: (T,) any numbers; nan is left out.
        positive: (T,) bool.

    Returns:
        0 to 1; nan without positives or without negatives.

    Raises:
        ValueError: shapes that do not fit.

    >>> roc_auc([0.9, 0.4, 0.4], [True, True, False])
    0.75
    """
    values, right = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if values.ndim != 1 or values.shape != right.shape:
        raise ValueError(f"scores: got shape {values.shape} for positive of shape {right.shape}, expected (T,) twice")
    right, values = right[~np.isnan(values)], values[~np.isnan(values)]
    positives, negatives = int(right.sum()), int((~right).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]  # from 1; equal scores share the mean of their ranks
    return float((ranks[right].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def lost_auc(boxes: ArrayLike, truth: ArrayLike, confidences: ArrayLike) -> float:
    """How well a tracker's confidence separates the frames where it is on its target from those where it is lost.

    Args:
        boxes, truth: (T, 4) x, y, w, h in pixels. The tracker is on its target where they overlap at all, and lost
            where they do not or the target is absent (any nan in the truth's row).
        confidences: (T,), larger where the tracker is more confident.

    Returns:
        The area under the ROC curve. 1: some threshold separates them without error; 0.5: no better than a coin; nan:
        the tracker was never lost, or never on its target.

    Raises:
        TypeError, ValueError: not numbers, or shapes that do not fit.

    >>> lost_auc([[0, 0, 9, 9]] * 3, [[0, 0, 9, 9], [50, 0, 9, 9], [float("nan")] * 4], [0.9, 0.2, 0.3])
    1.0
    """
    return roc_auc(confidences, overlap(boxes, truth) > 0)


def score(boxes: ArrayLike, truth: ArrayLike) -> Scores:
    """All figures of a run; the first frame counts like every other.

    Args:
        boxes, truth: (T, 4) x, y, w, h in pixels.

    Raises:
        ValueError: shapes that do not fit, or no frame with a ground truth.

    >>> score([[0, 0, 10, 10]], [[0, 0, 10, 10]])
    Scores(ao=1.0, sr50=1.0, sr75=1.0, auc=0.9523809523809523, precision20=1.0, normalized_precision=1.0, frames=1)
    """
    overlaps = overlap(boxes, truth)
    frames = int((~np.isnan(overlaps)).sum())
    if frames == 0:
        raise ValueError("truth: no frame has a ground truth")
    errors = center_error(boxes, truth)
    sr50, sr75 = success_curve(overlaps, [0.5, 0.75])
    return Scores(
        ao=float(np.nanmean(overlaps)),
        sr50=float(sr50),
        sr75=float(sr75),
        auc=float(success_curve(overlaps).mean()),
        precision20=float(precision_curve(errors, [20.0])[0]),
        normalized_precision=float(precision_curve(normalized_error(boxes, truth), NORMALIZED_THRESHOLDS).mean()),
        frames=frames,
    )
