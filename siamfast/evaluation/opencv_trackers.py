"""OpenCV's own trackers as peers, behind the got10k toolkit's interface."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

KINDS = ("csrt", "kcf", "mil")


def _create(kind: str) -> Any:
    """cv2.TrackerKIND_create(), wherever this OpenCV keeps it; None when it has none."""
    for home in (cv2, getattr(cv2, "legacy", None)):
        create = getattr(home, f"Tracker{kind.upper()}_create", None)
        if create is not None:
            return create()
        named = getattr(home, f"Tracker{kind.upper()}", None)
        if named is not None and hasattr(named, "create"):
            return named.create()
    return None


class OpenCVTracker:
    """One of OpenCV's trackers; a lost target keeps its last box.

    Args:
        kind: csrt, kcf or mil.

    Raises:
        ValueError: another kind, or one that this OpenCV does not have.
    """

    def __init__(self, kind: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"peers: got {kind!r}, expected some of {', '.join(KINDS)}")
        if _create(kind) is None:
            raise ValueError(
                f"peers: OpenCV {cv2.__version__} here has no tracker {kind!r}: install opencv-contrib-python-headless "
                "in place of opencv-python-headless"
            )
        self.kind, self.name = kind, f"OpenCV-{kind.upper()}"

    def track(
        self, img_files: Sequence[str | Path], box: ArrayLike, visualize: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As siamfast.Tracker.track."""
        tracker = _create(self.kind)
        boxes, times = [np.asarray(box, dtype=float)], [0.0]
        for number, path in enumerate(img_files):
            frame = cv2.imread(str(path))
            if frame is None:
                raise ValueError(f"image: {path} cannot be decoded")
            began = time.perf_counter()
            if number == 0:
                tracker.init(frame, tuple(round(float(v)) for v in boxes[0]))
                times[0] = time.perf_counter() - began
                continue
            found, where = tracker.update(frame)
            times.append(time.perf_counter() - began)
            boxes.append(np.asarray(where, dtype=float) if found else boxes[-1])
        return np.stack(boxes), np.asarray(times)
