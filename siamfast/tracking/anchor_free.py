"""From an anchor-free head's prediction to one box: the best cell, as SiamFC++ and SiamRPN choose it, and its like."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_AGREES = 0.6  # overlap with the best cell's box from which another cell's counts too


class Choice(NamedTuple):
    """box: (4,) x, y, w, h in search-crop pixels, the mean of what the cells that agree predict. quality: of the best
    cell, 0 to 1. penalty: what that was multiplied by, 0 to 1."""

    box: Array
    quality: float
    penalty: float


def hann_window(count: int) -> Array:
    """(count, count), the outer product of two Hann windows without their zeros; 1 in the middle."""
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
    """The cell with the highest quality after a penalty on changes of size and shape, blended with a window; its box,
    averaged with those of the cells that agree with it, weighted by quality and overlap.

    Sources: Li et al. 2018, "SiamRPN", section 4.3 (the penalty); Xu et al. 2020, "SiamFC++"; Gidaris and Komodakis
    2015, section 3.3 ("box voting").

    Args:
        quality: (h, w), 0 to 1.
        boxes: (4, h, w) left, top, right, bottom in search-crop pixels.
        size: (2,) width and height of the target as it was, search-crop pixels.
        window: (h, w), of the places that are likely.
        influence: weight of the window.
        penalty_k: how strongly a change of size or shape is held against a cell.
        stretch: (2,), what the sides of the boxes are multiplied by before they are compared.
    """
    # Few calls on small arrays, in float32: each costs a microsecond and more.
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
    weight[best] += 1e-9  # where all qualities are 0
    left, top, right, bottom = boxes.reshape(4, -1).astype(np.float64) @ weight.ravel() / weight.sum(dtype=np.float64)
    box = np.array([left, top, right - left, bottom - top])
    return Choice(box, float(quality[best]), float(penalty[best]))


def _padded(wide: Array | float, high: Array | float) -> Array:
    pad = (wide + high) / 2
    return np.sqrt((wide + pad) * (high + pad))


def _change(ratio: Array) -> Array:
    return np.maximum(ratio, 1 / ratio)
