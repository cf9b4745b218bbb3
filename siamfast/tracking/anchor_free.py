"""From an anchor-free head's prediction to the cell whose box is taken, as SiamFC++ and SiamRPN choose it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Choice(NamedTuple):
    """box: (4,) x, y, w, h in search-crop pixels, as the network predicts it. quality: of its cell, 0 to 1. penalty:
    what its quality was multiplied by, 0 to 1."""

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
    """The cell with the highest quality after a penalty on changes of size and shape, blended with a window.

    Sources: Li et al. 2018, "SiamRPN", section 4.3 (the penalty); Xu et al. 2020, "SiamFC++".

    Args:
        quality: (h, w), 0 to 1.
        boxes: (4, h, w) left, top, right, bottom in search-crop pixels.
        size: (2,) width and height of the target as it was, search-crop pixels.
        window: (h, w), of the places that are likely.
        influence: weight of the window.
        penalty_k: how strongly a change of size or shape is held against a cell.
        stretch: (2,), what the sides of the boxes are multiplied by before they are compared.
    """
    left, top, right, bottom = boxes.astype(np.float64)
    wide, high = np.maximum(right - left, 1e-3), np.maximum(bottom - top, 1e-3)
    across, down = np.broadcast_to(stretch, 2)
    shape = _change((wide * across / (high * down)) / (size[0] / size[1]))
    area = _change(_padded(wide * across, high * down) / _padded(size[0], size[1]))
    penalty = np.exp(-(shape * area - 1) * penalty_k)
    judged = penalty * quality * (1 - influence) + window * influence
    best = np.unravel_index(int(judged.argmax()), judged.shape)
    box = np.array([left[best], top[best], wide[best], high[best]])
    return Choice(box, float(quality[best]), float(penalty[best]))


def _padded(wide: Array | float, high: Array | float) -> Array:
    pad = (wide + high) / 2
    return np.sqrt((wide + pad) * (high + pad))


def _change(ratio: Array) -> Array:
    return np.maximum(ratio, 1 / ratio)
