"""Checks of a tracker's inputs: images of several kinds become RGB uint8 arrays; first boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Box = tuple[float, float, float, float]
MIN_SIDE, MAX_SIDE = 1e-3, 1e5  # pixels: beyond them the trackers' arithmetic gives nan, or crops that no op takes


def as_rgb(image: Any) -> NDArray[np.uint8]:
    """A PIL image, an RGB array (H, W, 3) or a gray one (H, W) or (H, W, 1) -> (H, W, 3) uint8 RGB.

    An RGB array is returned as it is, whatever its strides. A PIL image is turned by its EXIF orientation, as in
    `siamfast.io.images.read_image`.

    Raises:
        TypeError: neither, not uint8, or a PIL image of 32-bit integers or floats. ValueError: another shape, or no
            pixels.
    """
    if isinstance(image, np.ndarray):
        array = image
    elif hasattr(image, "convert") and hasattr(image, "getbands"):  # PIL, without importing it
        array = _pil_pixels(image)
    else:
        raise TypeError(f"image: got {type(image).__name__}, expected a numpy array (H, W, 3) uint8 RGB or a PIL image")
    if array.dtype != np.uint8:
        raise TypeError(f"image: got an array of {array.dtype}, expected uint8")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or array.size == 0:
        raise ValueError(
            f"image: got shape {image.shape}, expected (H, W, 3) RGB or (H, W) gray with at least one pixel"
        )
    return array if array.shape[2] == 3 else np.repeat(array, 3, axis=2)


def _pil_pixels(image: Any) -> NDArray[np.uint8]:
    from PIL import ImageOps

    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I;16"):
        return (np.asarray(turned) >> 8).astype(np.uint8)  # convert() would clip everything above 255 to white
    if turned.mode in ("I", "F"):
        raise TypeError(f"image: got a PIL image of mode {turned.mode}, expected at most 16 bits per channel")
    return np.asarray(turned.convert("RGB"))


class FirstFrame(NamedTuple):
    """The checked first frame that every tracker starts from."""

    pixels: NDArray[np.uint8]  # (H, W, 3) RGB
    box: NDArray[np.float64]  # (4,) x, y, w, h in 0-based pixels
    fill: NDArray[np.float64]  # (3,) the mean colour, rounded as OpenCV does; fills crops outside the frame


def check_first_frame(image: Any, box: ArrayLike | Sequence[float]) -> FirstFrame:
    """The arguments of a tracker's `init`, checked.

    Raises:
        ValueError: the box has no area or is outside the image. TypeError: not an image.
    """
    pixels = as_rgb(image)
    height, width = pixels.shape[:2]
    checked = check_box(box, width, height)
    return FirstFrame(pixels, checked, mean_fill(pixels))


def mean_fill(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(3,) the mean colour of a first frame (H, W, 3), rounded as OpenCV does."""
    mean: NDArray[np.float64] = pixels.mean(axis=(0, 1), dtype=np.float64)
    return np.rint(mean)


def check_box(box: ArrayLike | Sequence[float], width: int, height: int) -> NDArray[np.float64]:
    """box: x, y, w, h in 0-based pixels -> (4,) float64.

    Raises:
        ValueError: not four finite numbers, no area, a side below MIN_SIDE or above MAX_SIDE, or wholly outside the
            image of width x height.
    """
    try:
        values = np.asarray(box, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise ValueError(f"box: got {box!r}, expected four finite numbers x, y, w, h")
    x, y, w, h = values.tolist()
    text = f"{x:g},{y:g},{w:g},{h:g}"
    if w <= 0 or h <= 0:
        raise ValueError(f"box: got {text}, which has no area: expected w > 0 and h > 0")
    if min(w, h) < MIN_SIDE or max(w, h) > MAX_SIDE:
        raise ValueError(f"box: got {text}, expected sides from {MIN_SIDE:g} to {MAX_SIDE:g} pixels")
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise ValueError(f"box: got {text}, which is outside the image of {width} x {height} pixels")
    return values
