"""Turn an anchor-free head's prediction into one box: the best cell, chosen as in SiamFC++ and SiamRPN, and its
like."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

AGREEING_OVERLAP = 0.6  # least overlap with the best cell's box for another cell's box to count


class Choice(NamedTuple):
    """box: (N, 4) x, y, w, h in search-crop pixels, the mean prediction of the cells that agree. quality: (N,) of the
    best cell, 0 to 1. penalty: (N,), its factor in the choice, 0 to 1."""

    box: Array
    quality: Array
    penalty: Array


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
    stretch: Array | None = None,
) -> Choice:
    """Choose for each of N maps the cell with the highest quality after a penalty on changes of size and shape, blended
    with a window. Its box is averaged with the boxes of cells that agree with it, weighted by quality and overlap.

    Sources: Li et al. 2018, "SiamRPN", section 4.3 (the penalty); Xu et al. 2020, "SiamFC++"; Gidaris and Komodakis
    2015, section 3.3 ("box voting").

    Args:
        quality: (N, h, w), 0 to 1.
        boxes: (N, 4, h, w) left, top, right, bottom in search-crop pixels.
        size: (N, 2) previous width and height of the target, search-crop pixels.
        window: (h, w), larger where the target is more likely.
        influence: weight of the window.
        penalty_k: strength of the penalty on a change of size or shape.
        stretch: (N, 2), factors on the sides of the boxes before they are compared with `size`; None: 1.
    """
    # Few calls on small arrays, in float32: each call costs a microsecond or more.
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    stretched = sides if stretch is None else sides * stretch.astype(np.float32)[..., None, None]
    wide, high = stretched[:, 0], stretched[:, 1]
    last_wide, last_high = size[:, 0, None, None], size[:, 1, None, None]
    change = _change(wide / high * (last_high / last_wide)) * _change(
        _padded(wide, high) / _padded(last_wide, last_high)
    )
    penalty = np.exp((1 - change) * penalty_k)
    judged = penalty * quality * (1 - influence) + window * influence
    rows = np.arange(len(judged))
    best = rows, *np.unravel_index(judged.reshape(len(judged), -1).argmax(1), judged.shape[1:])
    its = boxes[rows, :, best[1], best[2]][..., None, None]  # (N, 4, 1, 1)
    shared = np.minimum(boxes[:, 2:], its[:, 2:]) - np.maximum(boxes[:, :2], its[:, :2])
    shared = np.maximum(shared, 0).prod(1)
    area = sides[:, 0] * sides[:, 1]
    overlap = shared / (area + area[best][:, None, None] - shared)
    weight = quality * overlap * (overlap >= AGREEING_OVERLAP)
    weight[best] += 1e-9  # in case all qualities are 0
    flat = weight.reshape(len(weight), -1, 1)
    corners = (boxes.reshape(len(boxes), 4, -1).astype(np.float64) @ flat)[..., 0]
    corners /= flat.sum(1, dtype=np.float64)
    box = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
    return Choice(box, quality[best].astype(np.float64), penalty[best].astype(np.float64))


def _padded(wide: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    pad = (wide + high) / 2
    return np.sqrt((wide + pad) * (high + pad))


def _change(ratio: NDArray[Any]) -> NDArray[Any]:
    return np.maximum(ratio, 1 / ratio)
