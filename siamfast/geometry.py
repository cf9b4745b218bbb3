"""Boxes, their centres, windows and cells, and conversions between the two pixel conventions.

By edge: pixel 0 spans 0 to 1, so the middle of n pixels is n / 2 and a box x, y, w, h ends at x + w. All public
functions take boxes by edge.

By index: the centre of pixel 0 is 0 and that of the last one n - 1, so the middle of n pixels is (n - 1) / 2. Crops
(`crop_and_resize`, SiamFC's curation), convolutions and resampling count by index.

No other module adds or subtracts half a pixel by hand.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

STRIDE = 8  # pixels from one cell of every network's features to the next

# Numbers, arrays and tensors alike.
Places = TypeVar("Places", float, NDArray[Any], torch.Tensor)
Boxes = TypeVar("Boxes", NDArray[Any], torch.Tensor)


def edge_to_index(place: Places) -> Places:
    """Convert a place counted from the first pixel's edge to one counted from the first pixel's centre."""
    return place - 0.5


def index_to_edge(place: Places) -> Places:
    """The reverse of `edge_to_index`.

    >>> index_to_edge(0.0)
    0.5
    """
    return place + 0.5


def middle_by_index(count: Places) -> Places:
    """The middle of `count` pixels or cells along a side, by index: 0 for one, 0.5 for two."""
    return (count - 1) / 2


def box_centers(boxes: Boxes) -> Boxes:
    """(..., 4) x, y, w, h -> (..., 2) x, y of the centres, by edge like the boxes."""
    return boxes[..., :2] + boxes[..., 2:] / 2


def box_centers_by_index(boxes: Boxes) -> Boxes:
    """(..., 4) x, y, w, h, by edge -> (..., 2) x, y of the centres by index, for `crop_and_resize`."""
    return boxes[..., :2] + middle_by_index(boxes[..., 2:])


def boxes_around(centers: NDArray[Any], sides: NDArray[Any]) -> NDArray[Any]:
    """(..., 2) centres x, y, by edge, and (..., 2) sides w, h -> (..., 4) boxes x, y, w, h."""
    return np.concatenate([centers - sides / 2, sides], axis=-1)


def boxes_around_index(centers: NDArray[Any], sides: NDArray[Any]) -> NDArray[Any]:
    """Like `boxes_around`, for centres by index.

    >>> boxes_around_index(np.array([4.5, 9.5]), np.array([10.0, 20.0]))
    array([ 0.,  0., 10., 20.])
    """
    return np.concatenate([centers - middle_by_index(sides), sides], axis=-1)


def resized_index(index: Places, factor: float) -> Places:
    """The place in an image of pixel or cell `index` of its version enlarged `factor` times, both by index, with
    coinciding edges.

    >>> resized_index(np.arange(4), 2.0)
    array([-0.25,  0.25,  0.75,  1.25])
    """
    return edge_to_index(index_to_edge(index) / factor)


def cell_coverage(low: Any, side: Any, place: Any, cell: float = STRIDE) -> Any:
    """The share of a cell of `cell` pixels around `place` inside low .. low + side, along one axis, 0 to 1.

    Takes arrays or tensors that broadcast.
    """
    minimum, maximum = (torch.minimum, torch.maximum) if isinstance(place, torch.Tensor) else (np.minimum, np.maximum)
    return (minimum(place + cell / 2, low + side) - maximum(place - cell / 2, low)).clip(0, cell) / cell
