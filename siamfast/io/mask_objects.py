"""Assign the pixels of a mask image to objects, by colours; soft edges are cut.

A mask that was resized, smoothed or saved as JPEG has intermediate levels at its edges, each of which would count as an
object. With a single object they are cut at half; between several objects they are ambiguous: an error.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Colours nearer than this share of the largest level are one colour with JPEG noise.
_NOISE = 0.2
# Fewer steps than these may be objects: two thin ones that touch.
_LEAST_STEPS = 3
MOST_OBJECTS = 255


def color_codes(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(H, W, 3) uint8 RGB -> (H, W) int64: one number per colour, 0 for black."""
    codes: NDArray[np.int64] = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    return codes


def has_soft_edges(codes: NDArray[np.integer[Any]]) -> bool:
    """Whether most codes except 0, and at least three, are only steps between others: they surround no pixel of their
    own on all sides, and each of their pixels touches another code that is not 0.

    Args:
        codes: (H, W), 0 for background.

    >>> has_soft_edges(np.array([[0, 60, 120, 180, 255, 255, 255]] * 3))
    True
    >>> has_soft_edges(np.array([[0, 1, 0, 2, 0, 3]] * 3))  # thin, but apart
    False
    """
    values, inverse = np.unique(codes, return_inverse=True)
    if (values != 0).sum() < _LEAST_STEPS:
        return False
    # Numbers from 1 on, with the background at infinity, so that minima and maxima compare neighbours.
    place = inverse.reshape(codes.shape).astype(np.float32) + 1
    background = np.asarray(codes) == 0
    around = np.ones((3, 3), np.uint8)
    highest = cv2.dilate(np.where(background, 0, place), around)
    lowest = cv2.erode(np.where(background, np.float32(np.inf), place), around)
    apart = (highest == place) & (lowest == place)  # touches no other object
    inner = cv2.erode(place, around) == cv2.dilate(place, around)
    firm = np.zeros(len(values), bool)
    firm[inverse.reshape(codes.shape)[apart | inner]] = True
    objects = values != 0
    steps = int((objects & ~firm).sum())
    return steps >= _LEAST_STEPS and steps * 2 > int(objects.sum())


def cut_soft_edges(
    channels: NDArray[np.floating[Any]], codes: NDArray[np.integer[Any]], what: str
) -> NDArray[np.bool_]:
    """The one object of a mask with soft edges or JPEG noise.

    Args:
        channels: (H, W, C) levels or colours, black without an object.
        codes: (H, W), one per colour.
        what: the mask's name in errors.

    Returns:
        (H, W) bool: nearer to the object's colour than to black.

    Raises:
        ValueError: several objects, none, or more intermediate pixels than the object has.
    """
    peak = float(channels.max())
    refusal = ValueError(
        f"{what} has {len(np.unique(codes))} levels or colours with soft edges or noise between them, expected one of "
        f"at most {MOST_OBJECTS} for each object on black, without smoothing, e.g. as an indexed PNG (or not a mask?)"
    )
    around = np.ones((3, 3), np.uint8)
    place = np.unique(codes, return_inverse=True)[1].reshape(codes.shape).astype(np.float32)
    inner = cv2.erode(place, around) == cv2.dilate(place, around)
    colors, counts = np.unique(channels[inner], axis=0, return_counts=True)
    centers: list[NDArray[Any]] = []  # colours of areas, the largest first
    for color in colors[np.argsort(-counts, kind="stable")]:
        if all(np.abs(color - center).max() > _NOISE * peak for center in centers):
            centers.append(color)
        if len(centers) > 2:
            raise refusal
    dark = [center for center in centers if center.max() <= _NOISE * peak]
    bright = [center for center in centers if center.max() > _NOISE * peak]
    if len(dark) != 1 or len(bright) > 1 or peak <= 0:
        raise refusal
    # An object too small for an inner pixel has its brightest pixel's colour.
    color = bright[0] if bright else channels.reshape(-1, channels.shape[-1])[channels.max(-1).argmax()]
    off, on = (np.abs(channels - center).max(-1) for center in (dark[0], color))
    nearer_off: NDArray[np.bool_] = on < off
    between = (off > _NOISE * peak) & (on > _NOISE * peak)
    if between.sum() > max(nearer_off.sum(), 1):
        raise refusal
    return nearer_off
