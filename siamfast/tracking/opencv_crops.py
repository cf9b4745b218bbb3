"""Context crops by OpenCV, for boxes equal to those of trackers that use it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from siamfast.geometry import middle_by_index


def opencv_crops(
    frame: NDArray[np.uint8], centers: NDArray[np.float64], sides: NDArray[np.float64], out_size: int, fill: object
) -> NDArray[np.uint8]:
    """`crop_and_resize` with rounding "siamfc-pytorch", resized by OpenCV, to the last grey level.

    OpenCV's bilinear weights have 11 bits: some six in a hundred values differ by one level from the exact ones that
    `crop_and_resize` rounds.

    Args:
        frame: (H, W, 3). centers: (M, 2) x, y, by index. sides: (M,). fill: (3,) colour.

    Returns:
        (M, out_size, out_size, 3).
    """
    crops = np.empty((len(sides), out_size, out_size, 3), np.uint8)
    for crop, center, exact in zip(crops, centers, sides, strict=True):
        side = max(1, round(float(exact)))
        left, top = np.round(center - middle_by_index(side)).astype(int).tolist()
        inside = frame[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
        above, before = min(side, max(0, -top)), min(side, max(0, -left))
        if inside.shape[:2] != (side, side):
            window = np.full((side, side, 3), np.rint(np.asarray(fill)), np.uint8)
            window[above : above + inside.shape[0], before : before + inside.shape[1]] = inside
            inside = window
        cv2.resize(inside, (out_size, out_size), dst=crop, interpolation=cv2.INTER_LINEAR)
    return crops
