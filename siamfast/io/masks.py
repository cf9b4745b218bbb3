"""Read and write mask images: object numbers in indexed, gray or coloured images, written with their palette."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from siamfast.io.files import replacing
from siamfast.io.mask_objects import MOST_OBJECTS, color_codes, cut_soft_edges, has_soft_edges

LARGEST_NUMBER = 65535  # the largest object number in a 16-bit PNG
_LOSSY = ("JPEG", "MPO")
_CUT = "its soft edges were cut at half"


class MaskImage(NamedTuple):
    """numbers: (H, W) uint8, or uint16 where one is above 255; 0 for background, each other number an object. palette:
    (256, 3) uint8 RGB, the colours for writing; None: gray levels. notes: repairs made on reading."""

    numbers: NDArray[np.uint8] | NDArray[np.uint16]
    palette: NDArray[np.uint8] | None
    notes: tuple[str, ...] = ()

    def objects(self) -> dict[int, int]:
        """number -> pixels of every object."""
        values, counts = np.unique(self.numbers, return_counts=True)
        return {int(v): int(n) for v, n in zip(values, counts, strict=True) if v}


def default_palette() -> NDArray[np.uint8]:
    """(256, 3) uint8 RGB, the palette of PASCAL VOC and DAVIS: bits of the number spread over the channels, the lowest
    three as the highest of red, green and blue, and so on.

    >>> default_palette()[:4].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    number = np.arange(256)[:, None]
    channel = np.arange(3)
    colors = np.zeros((256, 3), np.int64)
    for bit in range(3):
        colors |= ((number >> (3 * bit + channel)) & 1) << (7 - bit)
    return colors.astype(np.uint8)


def read_mask(path: str | os.PathLike[str], option: str = "--mask", like: MaskImage | None = None) -> MaskImage:
    """Read a mask image, turned by its EXIF orientation. Objects are the indices of an indexed image (DAVIS), the
    levels of a gray one of any depth, or the colours of a coloured one (black: background). Transparent pixels are
    background; opaque ones are one object if they form a picture or are black. Soft edges and JPEG noise around a
    single object are cut at half.

    Args:
        path: the image. option: its name in errors. like: a mask with colours that keep their numbers in this one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image, several pages, or no clear objects.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{option}: {path} is not a file")
    what = f"{option}: {path}"
    try:
        # From memory: of a file PIL reads as many bytes as a damaged chunk claims to have.
        with Image.open(io.BytesIO(Path(path).read_bytes())) as image:
            pages = getattr(image, "n_frames", 1)
            if pages > 1 and image.format != "MPO":
                raise ValueError(f"{what} has {pages} pages, expected one image")
            if image.mode in ("RGB", "RGBA", "LA") and image.tile and "16" in str(image.tile[0][3]):
                raise ValueError(f"{what} has 16 bits per channel and several channels, expected 8 bits, or gray")
            lossy = image.format in _LOSSY
            upright = ImageOps.exif_transpose(image)
            upright.load()
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{what} cannot be read as an image ({error})") from error
    if upright.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        rgba = np.asarray(upright.convert("RGBA"))
        if (rgba[..., 3] < 255).any():
            return _transparent(rgba, what, like)
        upright = upright.convert("L" if upright.mode in ("LA", "La") else "RGB")
    if upright.mode == "P":
        return _indexed(upright, what, like)
    if upright.mode in ("1", "L") or upright.mode[0] in "IF":
        return _gray(np.asarray(upright.convert("L") if upright.mode == "1" else upright), lossy, what)
    return _colored(np.asarray(upright.convert("RGB")), lossy, what, like)


def _gray(levels: NDArray[Any], lossy: bool, what: str) -> MaskImage:
    if not np.isfinite(levels).all() or levels.min() < 0:
        raise ValueError(f"{what} has levels below 0 or not finite, expected whole numbers from 0 on")
    numbers = levels.astype(np.int64)
    if (numbers != levels).any():
        if levels.max() > 1:
            raise ValueError(f"{what} has levels that are not whole numbers, expected whole ones, or shares of 0 to 1")
        return MaskImage((levels > 0.5).astype(np.uint8), None, ("its levels, shares of 0 to 1, were cut at half",))
    notes: tuple[str, ...] = ()
    if (lossy and len(np.unique(numbers)) > 2) or has_soft_edges(numbers):
        peak = int(numbers.max())
        numbers, notes = cut_soft_edges(levels.astype(np.float64)[..., None], numbers, what) * peak, (_CUT,)
    _check_count(np.unique(numbers), what)
    if numbers.max() > LARGEST_NUMBER:
        raise ValueError(f"{what} has the number {numbers.max()}, expected numbers up to {LARGEST_NUMBER}")
    fitting = numbers.astype(np.uint8) if numbers.max() < 256 else numbers.astype(np.uint16)
    return MaskImage(fitting, None, notes)


def _indexed(image: Image.Image, what: str, like: MaskImage | None) -> MaskImage:
    stored = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette = default_palette()
    palette[: len(stored)] = stored
    numbers = np.asarray(image, np.uint8)
    used = np.unique(numbers)
    # Programs that number colours themselves may have black, the background, at another index than 0.
    black_elsewhere = palette[0].any() and not palette[used].any(1).all()
    if black_elsewhere or has_soft_edges(numbers):
        return _colored(palette[numbers], False, what, like)
    return MaskImage(numbers, palette)


def _colored(pixels: NDArray[np.uint8], lossy: bool, what: str, like: MaskImage | None) -> MaskImage:
    codes = color_codes(pixels)
    notes: tuple[str, ...] = ()
    if (lossy and len(np.unique(codes)) > 2) or has_soft_edges(codes):
        on = cut_soft_edges(pixels.astype(np.float64), codes, what)
        # Written in its most frequent colour.
        values, counts = np.unique(codes[on], return_counts=True)
        codes, notes = np.where(on, values[counts.argmax()], 0), (_CUT,)
    return _numbered(codes, what, like, notes)


def _transparent(rgba: NDArray[np.uint8], what: str, like: MaskImage | None) -> MaskImage:
    opaque = rgba[..., 3] >= 128
    notes = (_CUT,) if ((rgba[..., 3] > 0) & (rgba[..., 3] < 255)).any() else ()
    codes = np.where(opaque, color_codes(rgba[..., :3]), 0)
    count = len(np.unique(codes[codes > 0]))
    if 0 < count <= MOST_OBJECTS and not has_soft_edges(codes):
        return _numbered(codes, what, like, notes)
    return MaskImage(opaque.astype(np.uint8) * 255, None, (*notes, "its opaque part is one object"))


def _numbered(codes: NDArray[np.int64], what: str, like: MaskImage | None, notes: tuple[str, ...]) -> MaskImage:
    """Number colours in their order; colours of `like` keep their numbers."""
    values, places = np.unique(codes, return_inverse=True)
    _check_count(values, what)
    palette = default_palette()
    known: dict[int, int] = {0: 0}  # black is background, whether or not it occurs
    if like is not None and like.palette is not None:
        palette = like.palette.copy()
        known |= {int(color_codes(palette[v])): v for v in like.objects()}
    free = iter(sorted(set(range(1, 256)) - set(known.values())))
    for value in (int(v) for v in values):
        if value not in known:
            known[value] = next(free, 0)
            if not known[value]:
                raise ValueError(f"{what} has more colours than the first mask, together more than {MOST_OBJECTS}")
            palette[known[value]] = value >> 16, value >> 8 & 255, value & 255
    numbers = np.array([known[int(v)] for v in values], np.uint8)[places].reshape(codes.shape)
    return MaskImage(numbers, palette, notes)


def _check_count(values: NDArray[np.integer[Any]], what: str) -> None:
    count = int((values != 0).sum())
    if count > MOST_OBJECTS:
        raise ValueError(
            f"{what} has {count} colours or levels, expected one for each object, at most {MOST_OBJECTS} (not a mask?)"
        )


def read_written(path: Path) -> MaskImage:
    """Read a mask of `write_mask`: its numbers are kept, however thin an object is."""
    with Image.open(path) as image:
        palette = None if image.mode != "P" else np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return MaskImage(np.asarray(image), palette)


def write_mask(path: Path, numbers: NDArray[np.uint8] | NDArray[np.uint16], palette: NDArray[np.uint8] | None) -> None:
    """Write a PNG, with 16 bits if `numbers` has them, under a temporary name, then rename it."""
    image = Image.fromarray(numbers)
    if palette is not None:
        image.putpalette(palette.tobytes())
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")
