"""Long-term figures: whether a tracker knows that its target is gone, and takes it up again when it is back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamfast.evaluation.metrics import overlap

LEAST_GONE, TAKEN_UP_WITHIN, ON_TARGET = 10, 25, 0.5  # frames of an absence; visible frames after it; overlap
_THRESHOLDS = 100


class LongTerm(NamedTuple):
    """Figures over several sequences.

    precision, recall, f: tracking precision, recall and F-score at the confidence threshold where F is largest
    (Lukezic et al. 2020, "Performance Evaluation Methodology for Long-Term Single-Object Tracking", eq. 1 to 3).
    threshold: that confidence. returns: the number of times that the target is back after 10 frames or more.
    reacquired: the share of them after which the tracker is on it, with an overlap of 0.5, within 25 frames.
    false_alarms: the share of the frames without the target in which the confidence reaches the threshold.
    """

    precision: float
    recall: float
    f: float
    threshold: float
    returns: int
    reacquired: float
    false_alarms: float


class _Frames(NamedTuple):
    """One sequence without its first frame: (T,) overlaps, 0 where the target is absent; visibility; confidences."""

    overlaps: NDArray[np.float64]
    visible: NDArray[np.bool_]
    confidences: NDArray[np.float64]


def long_term(runs: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike]]) -> LongTerm:
    """The figures of a tracker.

    Args:
        runs: of each sequence boxes (T, 4) x, y, w, h and truth (T, 4) in pixels, nan in the truth where the target is
            absent, and confidences (T,), larger where the tracker is more confident. The first frame, where the box
            is given, does not count.

    Returns:
        nan for what the sequences do not show: without a frame with the target, without a return, without an absence.

    Raises:
        TypeError, ValueError: not numbers, or shapes that do not fit.

    >>> here, gone = [0, 0, 9, 9], [float("nan")] * 4
    >>> figures = long_term([([here] * 4, [here, here, gone, here], [1, 0.9, 0.2, 0.8])])
    >>> figures.f, figures.threshold, figures.false_alarms
    (1.0, 0.8, 0.0)
    """
    sequences = [_frames(*run) for run in runs]
    curve = _curve([s for s in sequences if s.visible.any()])
    backs = [back for s in sequences for back in _returns(s)]
    reacquired = float(np.mean(backs)) if backs else float("nan")
    absent = np.concatenate([s.confidences[~s.visible] for s in sequences] or [np.empty(0)])
    false_alarms = float((absent >= curve[3]).mean()) if len(absent) else float("nan")
    return LongTerm(*curve, len(backs), reacquired, false_alarms)


def _frames(boxes: ArrayLike, truth: ArrayLike, confidences: ArrayLike) -> _Frames:
    overlaps, sure = overlap(boxes, truth), np.asarray(confidences, dtype=np.float64)
    if sure.shape != overlaps.shape:
        raise ValueError(f"confidences: got shape {sure.shape}, expected ({len(overlaps)},), one per box")
    visible = ~np.isnan(overlaps)
    return _Frames(np.where(visible, overlaps, 0.0)[1:], visible[1:], np.nan_to_num(sure, nan=-np.inf)[1:])


def _curve(sequences: Sequence[_Frames]) -> tuple[float, float, float, float]:
    """Precision, recall and F at the threshold where F is largest, and the threshold."""
    if not sequences:
        return (float("nan"),) * 4
    everything = np.sort(np.concatenate([s.confidences for s in sequences]))
    picked = np.linspace(0, len(everything) - 1, min(_THRESHOLDS, len(everything))).round().astype(int)
    best = (0.0, 0.0, 0.0, float(everything[-1]))
    for threshold in everything[picked]:
        precisions, recalls = [], []
        for s in sequences:
            shown = s.confidences >= threshold
            precisions.append(s.overlaps[shown].mean() if shown.any() else 1.0)
            recalls.append(s.overlaps[shown].sum() / s.visible.sum())
        precision, recall = float(np.mean(precisions)), float(np.mean(recalls))
        f = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
        if f >= best[2]:
            best = precision, recall, f, float(threshold)
    return best


def _returns(s: _Frames) -> list[bool]:
    """Of each return of the target, whether the tracker took it up again."""
    changes = np.flatnonzero(np.diff(s.visible.astype(np.int8), prepend=1, append=1 - s.visible[-1:]))
    starts = changes[:-1][s.visible[changes[:-1]]]  # of visible stretches after an absence
    results = []
    for start in starts:
        before = np.flatnonzero(s.visible[:start])
        gone = start - (before[-1] + 1 if len(before) else 0)
        if gone >= LEAST_GONE:
            later = np.flatnonzero(~s.visible[start:])
            end = start + min(TAKEN_UP_WITHIN, later[0] if len(later) else len(s.visible))
            results.append(bool((s.overlaps[start:end] >= ON_TARGET).any()))
    return results
