"""Mask images in and out: object numbers in indexed, gray or coloured PNGs, written so that they look as they came."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from siamfast.files import replacing


class MaskImage(NamedTuple):
    """numbers: (H, W) uint8, 0 for background, each other number an object. palette: (256, 3) uint8 RGB, the colours
    they are written in; None: as gray levels."""

    numbers: NDArray[np.uint8]
    palette: NDArray[np.uint8] | None


def default_palette() -> NDArray[np.uint8]:
    """(256, 3) uint8 RGB, as PASCAL VOC and DAVIS colour their masks: bits of the number spread over the channels, the
    lowest three as the highest of red, green and blue, and so on.

    >>> default_palette()[:4].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    number = np.arange(256)[:, None]
    channel = np.arange(3)
    colors = np.zeros((256, 3), np.int64)
    for bit in range(3):
        colors |= ((number >> (3 * bit + channel)) & 1) << (7 - bit)
    return colors.astype(np.uint8)


def read_mask(path: str | os.PathLike[str], option: str = "--mask") -> MaskImage:
    """A mask image: indexed (DAVIS) by its indices, gray by its levels, coloured by its colours (black: background).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image, or one of more than 256 colours.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{option}: {path} is not a file")
    try:
        with Image.open(path) as image:
            if image.mode == "P":
                stored = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
                palette = default_palette()
                palette[: len(stored)] = stored
                return MaskImage(np.asarray(image, np.uint8), palette)
            if image.mode in ("1", "L", "LA"):
                return MaskImage(np.asarray(image.convert("L")), None)
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{option}: {path} cannot be read as an image ({error})") from error
    codes = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    colors, places = np.unique(codes, return_inverse=True)
    if colors[0]:  # black is background, whether or not it is there
        colors, places = np.insert(colors, 0, 0), places + 1
    if len(colors) > 256:
        raise ValueError(
            f"{option}: {path} has {len(colors)} colours, expected one an object, at most 255 (not a mask?)"
        )
    palette = default_palette()
    palette[: len(colors)] = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], 1)
    return MaskImage(places.reshape(codes.shape).astype(np.uint8), palette)


def write_mask(path: Path, numbers: NDArray[np.uint8], palette: NDArray[np.uint8] | None) -> None:
    """Write a PNG under a temporary name, then rename it."""
    image = Image.fromarray(numbers)
    if palette is not None:
        image.putpalette(palette.tobytes())
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")
