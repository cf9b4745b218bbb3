"""Blend the boxes tracked forwards from one key frame and backwards from the next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamfast.evaluation.metrics import overlap
from siamfast.geometry import box_centers, boxes_around

Array = NDArray[np.float64]

# Chosen on the thirteen sequences of docs/annotate.md; 27 of 180 settings are within .003 of the best.
_TRUST_POWER = 3  # of a direction's overlap with the key that it ends at
_LEAST_TRUST, _LEAST_CONFIDENCE = 0.05, 0.02
_CORRECTED = 0.3  # least overlap with the key for the way there to be corrected by the error at its end
_APART = 0.3  # where corrected boxes overlap less than this, the more trusted one is taken: a mean is on neither


class Way(NamedTuple):
    """A target tracked from one key to the next, in frames' order. boxes: (n, 4) x, y, w, h. confidences: (n,)."""

    boxes: Array
    confidences: Array


def blend(forward: Way, backward: Way, times: Array) -> Way:
    """One way from two: at each frame the mean by time, confidence and trust.

    A direction is trusted by its overlap with the key that it ends at, which it did not know. If that is not too small,
    its error there is taken back in proportion to the time from its start: the centre by a shift, the sides by a
    factor.

    The result's boxes are the keys themselves at both ends. Its confidence is 1 there, and between them the geometric
    mean of the trackers' confidence and of the overlap of both directions as they were tracked.

    Args:
        forward: its first box is the first key, its last one the tracker's in the second key's frame.
        backward: its last box is the second key, its first one the tracker's in the first key's frame.
        times: (n,) of the frames, 0 at the first key and 1 at the second.

    >>> keys = np.array([[0, 0, 10, 10], [20, 0, 10, 10]], float)
    >>> ways = [Way(keys + shift, np.ones(2)) for shift in ([[0], [4]], [[2], [0]])]
    >>> blend(*ways, np.array([0.0, 1.0])).boxes
    array([[ 0.,  0., 10., 10.],
           [20.,  0., 10., 10.]])
    """
    first, second = forward.boxes[0], backward.boxes[-1]
    ahead, ahead_trust = _corrected(forward.boxes, forward.boxes[-1], second, times)
    back, back_trust = _corrected(backward.boxes, backward.boxes[0], first, 1 - times)
    share = ahead_trust * np.maximum(forward.confidences, _LEAST_CONFIDENCE) * (1 - times)
    other = back_trust * np.maximum(backward.confidences, _LEAST_CONFIDENCE) * times
    share = share / np.maximum(share + other, 1e-12)
    share = np.where(overlap(ahead, back) < _APART, share >= 0.5, share)
    boxes = share[:, None] * ahead + (1 - share[:, None]) * back
    sure = share * forward.confidences + (1 - share) * backward.confidences
    confidences = np.sqrt(sure * overlap(forward.boxes, backward.boxes))
    boxes[0], boxes[-1] = first, second
    confidences[[0, -1]] = 1.0
    return Way(boxes, confidences)


def _corrected(boxes: Array, end: Array, key: Array, times: Array) -> tuple[Array, float]:
    """Boxes whose error at their end is taken back in proportion to the time from their start, and their trust."""
    hit = float(overlap(end[None], key[None])[0])
    trust = max(hit, _LEAST_TRUST) ** _TRUST_POWER
    if hit < _CORRECTED:
        return boxes, trust
    centers = box_centers(boxes) + times[:, None] * (box_centers(key) - box_centers(end))
    return boxes_around(centers, boxes[:, 2:] * (key[2:] / end[2:]) ** times[:, None]), trust
