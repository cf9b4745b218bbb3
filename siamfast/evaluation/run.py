"""Run a tracker through a sequence."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from siamfast.data.sequences import Sequence


class TracksSequences(Protocol):
    """The interface that `run_tracker` needs: the got10k toolkit's `Tracker.track`, or siamfast.Tracker.

    `track` returns boxes and times, as in that toolkit. A tracker with confidences sets an attribute `confidences`, one
    number per frame.
    """

    def track(self, img_files: Any, box: Any, visualize: bool = False) -> tuple[Any, Any]: ...


class Result(NamedTuple):
    """The result of a tracker on a sequence.

    boxes: (T, 4) x, y, w, h, the first as given. times: (T,) seconds per frame, without decoding. confidences: (T,),
    the first without meaning; None: the tracker has none.
    """

    boxes: NDArray[np.float64]
    times: NDArray[np.float64]
    confidences: NDArray[np.float64] | None = None


def run_tracker(tracker_factory: Callable[[], TracksSequences], sequence: Sequence) -> Result:
    """Track a sequence from the box of its first frame.

    Args:
        tracker_factory: makes a new tracker.
        sequence: its first frame must have a box.

    Raises:
        ValueError: the first frame has no box, or the tracker returned another number of boxes or confidences.
    """
    if np.isnan(sequence.boxes[0]).any():
        raise ValueError(f"sequence: {sequence.name} has no box in its first frame")
    tracker = tracker_factory()
    begin = time.perf_counter()
    boxes, times = tracker.track([str(p) for p in sequence.frames], sequence.boxes[0].copy())
    rows = np.asarray(boxes, dtype=np.float64)
    if rows.shape != (len(sequence), 4):
        raise ValueError(f"tracker: returned boxes of shape {rows.shape}, expected ({len(sequence)}, 4)")
    spent = np.asarray(times, dtype=np.float64)
    if spent.shape != (len(sequence),):  # a tracker with other timings: only the mean is known
        spent = np.full(len(sequence), (time.perf_counter() - begin) / len(sequence))
    confidences = getattr(tracker, "confidences", None)
    if confidences is not None:
        confidences = np.asarray(confidences, dtype=np.float64)
        if confidences.shape != (len(sequence),):
            raise ValueError(f"tracker: left confidences of shape {confidences.shape}, expected ({len(sequence)},)")
    return Result(rows, spent, confidences)
