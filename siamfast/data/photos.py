"""Photographs of a folder as textures: squares cut out of them, and objects marked by an alpha channel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from siamfast.io.images import read_image
from siamfast.io.listing import folders, image_files

_SHORTEST = 320  # pixels: larger photographs are shrunk on reading, so that many stay in memory
_KEPT = 1500


@dataclass(frozen=True)
class Piece:
    """A square of a photograph.

    number: of the photograph. x, y: the middle, as shares of width and height. size: the side, as a share of the
    photograph's shorter one. mirrored: left and right exchanged. color: (3, 3), a factor on RGB, or None; shift: (3,)
    added to it, grey levels."""

    number: int
    x: float
    y: float
    size: float
    mirrored: bool
    color: NDArray[np.float32] | None
    shift: NDArray[np.float32]

    def near(self, rng: np.random.Generator) -> Piece:
        """Almost the same piece, for an object that resembles this one."""
        x, y = np.clip(np.array([self.x, self.y]) + rng.normal(size=2) * 0.04, 0, 1).tolist()
        shift = self.shift + (rng.normal(size=3) * rng.choice([2.0, 8.0, 20.0])).astype(np.float32)
        size = float(np.clip(self.size * np.exp(rng.normal() * 0.1), 0.1, 1))
        return replace(self, x=x, y=y, size=size, mirrored=bool(rng.random() < 0.3) != self.mirrored, shift=shift)


class Marked(NamedTuple):
    """A photograph, (H, W, 3) uint8 RGB, and the outline of its object: (P, 2) x, y in its pixels, the first of which
    spans 0 to 1."""

    image: NDArray[np.uint8]
    outline: NDArray[np.float64]


class Photos:
    """The photographs of a folder and its subfolders. The alpha channel of PNGs marks an object, as written by
    `siamfast cutouts`.

    Args:
        folder: of images, at any depth.

    Raises:
        FileNotFoundError: no such folder. ValueError: no image in it.
    """

    def __init__(self, folder: str | Path) -> None:
        root = Path(folder)
        if not root.is_dir():
            raise FileNotFoundError(f"photos: {root} is not a folder")
        self.folder = root
        self.files = image_files(root) + [f for d in folders(root, "**/*") for f in image_files(d)]
        if not self.files:
            raise ValueError(f"photos: no image in {root}")
        self.read = lru_cache(maxsize=_KEPT)(self._read)
        self.outline = lru_cache(maxsize=_KEPT)(self._outline)
        self.marked = [number for number, path in enumerate(self.files) if _has_alpha(path)]

    def __len__(self) -> int:
        return len(self.files)

    def __reduce__(self) -> tuple[type[Photos], tuple[Path]]:
        return Photos, (self.folder,)  # each worker has its own cache

    def _read(self, number: int) -> NDArray[np.uint8]:
        image = read_image(self.files[number])
        scale = _SHORTEST / min(image.shape[:2])
        if scale < 1:
            image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        return np.ascontiguousarray(image)

    def _outline(self, number: int) -> NDArray[np.float64] | None:
        """(P, 2) outline of the largest area in the alpha channel; None: there is none of 8 pixels or more."""
        from PIL import Image, ImageOps

        shape = self.read(number).shape
        with Image.open(self.files[number]) as image:
            if "A" not in image.getbands():
                return None
            marks = np.asarray(ImageOps.exif_transpose(image).getchannel("A"))
        alpha = cv2.resize(marks, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
        outlines, _ = cv2.findContours((alpha > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        largest = max(outlines, key=cv2.contourArea, default=None)
        if largest is None or min(cv2.boundingRect(largest)[2:]) < 8:
            return None
        fewer = _divided(cv2.approxPolyDP(largest, 1.0, True)[:, 0].astype(np.float64))
        # A contour runs through the centres of the border's pixels: move it half a pixel outwards, to their edges.
        return fewer + 0.5 + 0.5 * np.sign(fewer - fewer.mean(0))

    def thing(self, rng: np.random.Generator) -> tuple[int, Marked] | None:
        """The number of a random photograph with a marked object, and that object; None: there is none."""
        for _ in range(4 if self.marked else 0):
            number = self.marked[int(rng.integers(len(self.marked)))]
            outline = self.outline(number)
            if outline is not None:
                return number, Marked(self.read(number), outline)
        return None

    def draw(self, rng: np.random.Generator, *, middle: bool) -> Piece:
        """A random piece of a random photograph.

        Args:
            rng: the random generator.
            middle: whether to take the middle, where a photograph's object is; else anywhere, and large, as a
                background.
        """
        spread = 0.09 if middle else 0.3
        x, y = np.clip(0.5 + rng.normal(size=2) * spread, 0, 1).tolist()
        size = float(rng.uniform(0.25, 0.85) if middle else rng.uniform(0.7, 1.0))
        color, shift = None, np.zeros(3, np.float32)
        if rng.random() < 0.25:
            color = (np.eye(3) + rng.normal(size=(3, 3)) * 0.2).astype(np.float32)
            shift = (rng.normal(size=3) * 20).astype(np.float32)
        return Piece(int(rng.integers(len(self))), x, y, size, bool(rng.random() < 0.5), color, shift)

    def paint(self, piece: Piece, side: int) -> NDArray[np.float32]:
        """The piece as (side, side, 3), 0..255."""
        image = self.read(piece.number)
        height, width = image.shape[:2]
        size = max(8, round(piece.size * min(height, width)))
        x = int(np.clip(round(piece.x * width - size / 2), 0, width - size))
        y = int(np.clip(round(piece.y * height - size / 2), 0, height - size))
        part = image[y : y + size, x : x + size]
        part = part[:, ::-1] if piece.mirrored else part
        way = cv2.INTER_AREA if size > side else cv2.INTER_CUBIC
        part = cv2.resize(np.ascontiguousarray(part), (side, side), interpolation=way).astype(np.float32)
        if piece.color is not None:
            part = part @ piece.color
        return np.clip(part + piece.shift, 0, 255).astype(np.float32)


def _divided(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The closed outline with points no further apart than some pixels, so that its edges can be bent."""
    parts = []
    for first, last in zip(points, np.roll(points, -1, 0), strict=True):
        count = max(1, int(np.hypot(*(last - first)) / 6))
        parts.append(first + (last - first) * (np.arange(count) / count)[:, None])
    return np.concatenate(parts)


def _has_alpha(path: Path) -> bool:
    from PIL import Image, UnidentifiedImageError

    if path.suffix.lower() != ".png":
        return False
    try:
        with Image.open(path) as image:
            return image.mode in ("RGBA", "LA")
    except (UnidentifiedImageError, OSError):
        return False
