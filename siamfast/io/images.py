"""Read image files with one decoder and one rule, whatever OpenCV is installed: cut, damaged and multi-page files are
errors, EXIF orientation is applied, and nothing is printed."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from siamfast.io.decoders import decode_pixels

Image = NDArray[np.uint8]  # (H, W, 3) RGB
MAX_PIXELS = 1 << 27  # per image; larger ones are not decoded
_ORIENTATION = 0x0112  # EXIF's tag
_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}


class Head(NamedTuple):
    """An image file's header. kind: e.g. "JPEG". height, width: as stored. orientation: EXIF's, 1 to 8."""

    kind: str
    height: int
    width: int
    orientation: int


def read_image(path: str | os.PathLike[str]) -> Image:
    """An image file as (H, W, 3) uint8 RGB, turned by its EXIF orientation.

    Raises:
        FileNotFoundError: no such file. ValueError: it does not decode, is cut short or damaged, has several pages, or
            more than MAX_PIXELS.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"image: {path} is not a file")
    try:
        image, _ = decode_bgr(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"image: {path} {error}") from None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), dtype=np.uint8)


def decode_bgr(content: bytes, shrink: int = 1) -> tuple[NDArray[np.uint8], int]:
    """An image file's content as (H, W, 3) uint8 BGR, turned by its EXIF orientation, and the factor it was shrunk by.

    Args:
        content: of the file.
        shrink: with 2 or 4, a JPEG is decoded at 1/2 or 1/4 of its size, which is faster; other formats are not shrunk.

    Raises:
        ValueError: as `read_image`; the message begins with a verb.
    """
    head = _head(io.BytesIO(content))
    shrink = shrink if head.kind == "JPEG" else 1
    # imdecode, not imread, because of file names. We turn images: which formats OpenCV turns depends on its release.
    flags = _REDUCED[shrink] | cv2.IMREAD_IGNORE_ORIENTATION
    image = decode_pixels(content, flags)
    # Every OpenCV turns TIFFs itself, whatever the flag.
    turned = image if head.kind == "TIFF" else upright(image, head.orientation)
    return np.ascontiguousarray(turned, np.uint8), shrink


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of an image file after its EXIF orientation; the pixels are not decoded.

    Raises:
        ValueError: as `read_image`. OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            head = _head(file)
        except ValueError as error:
            raise ValueError(f"image: {path} {error}") from None
    return (head.width, head.height) if head.orientation >= 5 else (head.height, head.width)


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """(H, W, C) turned by EXIF's orientation; a view."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def _head(file: BinaryIO) -> Head:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's warnings about large images and broken EXIF blocks
            image = PILImage.open(file)
            width, height = image.size
            if image.format == "TIFF":  # as stored; some releases of PIL return the turned size
                width, height = (int(image.tag_v2[tag]) for tag in (256, 257))  # type: ignore[attr-defined]
            kind, pages = str(image.format), getattr(image, "n_frames", 1)
            orientation = _orientation(image, file)
    except PILImage.DecompressionBombError:
        raise ValueError(f"claims more than {MAX_PIXELS} pixels") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, KeyError) as error:
        raise ValueError(f"cannot be decoded ({type(error).__name__})") from None
    if width * height > MAX_PIXELS:
        raise ValueError(f"claims {width} x {height} pixels, more than {MAX_PIXELS}")
    if kind == "MPO":  # a JPEG followed by a second picture, as cameras write for previews
        kind, pages = "JPEG", 1
    if pages > 1:
        raise ValueError(f"has {pages} pages, expected one image per file")
    return Head(kind, height, width, orientation)


def _orientation(image: PILImage.Image, file: BinaryIO) -> int:
    """EXIF's orientation; 1 if it is missing or unreadable."""
    if image.format == "PNG" and "exif" not in image.info:
        # It may come after the pixels, which PIL would decode to reach it.
        at = file.tell()
        file.seek(0)
        behind = b"eXIf" in file.read()
        file.seek(at)
        if not behind:
            return 1
    try:
        tag = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken block makes PIL raise anything; the image itself may be fine
        return 1
    return tag if isinstance(tag, int) and 1 <= tag <= 8 else 1
