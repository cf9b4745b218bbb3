"""Turn an anchor-free head's prediction into one box: the best cell, chosen as in SiamFC++ and SiamRPN, and its
like."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_AGREES = 0.6  # least overlap with the best cell's box for another cell's box to count


class Choice(NamedTuple):
    """box: (4,) x, y, w, h in search-crop pixels, the mean prediction of the cells that agree. quality: of the best
    cell, 0 to 1. penalty: its factor in the choice, 0 to 1."""

    box: Array
    quality: float
    penalty: float


def hann_window(count: int) -> Array:
    """(count, count): the outer product of two Hann windows without their zeros; 1 in the middle."""
    hann = np.hanning(count + 2)[1:-1]
    return np.outer(hann, hann)


def choose(
    quality: NDArray[np.floating],
    boxes: NDArray[np.floating],
    size: Array,
    window: Array,
    *,
    influence: float,
    penalty_k: float,
    stretch: Array | float = 1.0,
) -> Choice:
    """Choose the cell with the highest quality after a penalty on changes of size and shape, blended with a window. Its
    box is averaged with the boxes of cells that agree with it, weighted by quality and overlap.

    Sources: Li et al. 2018, "SiamRPN", section 4.3 (the penalty); Xu et al. 2020, "SiamFC++"; Gidaris and Komodakis
    2015, section 3.3 ("box voting").

    Args:
        quality: (h, w), 0 to 1.
        boxes: (4, h, w) left, top, right, bottom in search-crop pixels.
        size: (2,) previous width and height of the target, search-crop pixels.
        window: (h, w), larger where the target is more likely.
        influence: weight of the window.
        penalty_k: strength of the penalty on a change of size or shape.
        stretch: (2,), factors on the sides of the boxes before they are compared with `size`.
    """
    # Few calls on small arrays, in float32: each call costs a microsecond or more.
    sides = np.maximum(boxes[2:] - boxes[:2], 1e-3)
    wide, high = sides * np.asarray(stretch, np.float32).reshape(-1, 1, 1)
    change = _change(wide / high * (size[1] / size[0])) * _change(_padded(wide, high) / _padded(size[0], size[1]))
    penalty = np.exp((1 - change) * penalty_k)
    judged = penalty * quality * (1 - influence) + window * influence
    best = np.unravel_index(int(judged.argmax()), judged.shape)
    its = boxes[:, best[0], best[1], None, None]
    shared = np.minimum(boxes[2:], its[2:]) - np.maximum(boxes[:2], its[:2])
    shared = np.maximum(shared, 0).prod(0)
    area = sides[0] * sides[1]
    overlap = shared / (area + area[best] - shared)
    weight = quality * overlap * (overlap >= _AGREES)
    weight[best] += 1e-9  # in case all qualities are 0
    left, top, right, bottom = boxes.reshape(4, -1).astype(np.float64) @ weight.ravel() / weight.sum(dtype=np.float64)
    box = np.array([left, top, right - left, bottom - top])
    return Choice(box, float(quality[best]), float(penalty[best]))


def _padded(wide: Array | float, high: Array | float) -> Array:
    pad = (wide + high) / 2
    return np.sqrt((wide + pad) * (high + pad))


def _change(ratio: Array) -> Array:
    return np.maximum(ratio, 1 / ratio)
