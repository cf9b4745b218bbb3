"""Annotated sequences on disk: a folder of frames with a groundtruth.txt of x,y,w,h rows."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamfast.io.listing import folders, image_files

_SEPARATOR = re.compile(r"[,;\t ]+")


@dataclass(frozen=True)
class Sequence:
    """Frames and their boxes.

    name: of the folder. frames: paths in order. boxes: (T, 4) float64 x, y, w, h in 0-based pixels; a row of nan where
    the target is absent. visibility: (T,) float64, the visible share of the target, 0 to 1, if the data set has it;
    else None.
    """

    name: str
    frames: tuple[Path, ...]
    boxes: NDArray[np.float64]
    visibility: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def first(self, count: int) -> Sequence:
        """The first `count` frames."""
        if count < 1:
            raise ValueError(f"count: got {count}, expected at least 1")
        visibility = None if self.visibility is None else self.visibility[:count]
        return Sequence(self.name, self.frames[:count], self.boxes[:count], visibility)

    def digest(self) -> str:
        """16 hexadecimal digits that identify it by the names and sizes of its frames, the first one's content and the
        truth. Reading the content of all frames would take as long as tracking.

        Raises:
            OSError: a frame is missing.
        """
        digest = hashlib.sha256()
        for path in self.frames:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        digest.update(self.frames[0].read_bytes())
        for truth in (self.boxes, self.visibility):
            digest.update(b"" if truth is None else np.asarray(truth, np.float64).tobytes())
        return digest.hexdigest()[:16]


def read_boxes(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Read rows of x,y,w,h, separated by comma, semicolon, tab or space, any line ends; absent is nan or 0,0,0,0.

    Returns:
        (T, 4) float64. A row with a nan or without an area becomes nan throughout; empty lines at the end are dropped.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a row that is not four numbers or is infinite; the message has the line number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"ground truth: {path} is not a file")
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error})") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = [float(word) for word in _SEPARATOR.split(line.strip())]
        except ValueError:
            row = []
        if len(row) != 4:
            raise ValueError(f"{path}, line {number}: got {line.strip()!r}, expected four numbers x,y,w,h")
        if np.isinf(row).any():
            raise ValueError(f"{path}, line {number}: got {line.strip()!r}, expected finite numbers or nan")
        if np.isnan(row).any() or row[2] <= 0 or row[3] <= 0:
            row = [np.nan] * 4
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no boxes in it")
    return np.array(rows, dtype=np.float64)


def proper_boxes(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (T, 4), with rows that are not finite or have no area set to nan."""
    good = np.isfinite(boxes).all(1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    return np.where(good[:, None], boxes, np.nan)


def read_sequence(folder: str | os.PathLike[str]) -> Sequence:
    """Read a sequence: `groundtruth.txt` beside the frames, or beside a folder `img` with them.

    Raises:
        FileNotFoundError: no such folder, or no groundtruth.txt in it.
        ValueError: no frames; different counts of rows and frames; a malformed row.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"sequence: {folder} is not a folder")
    boxes = read_boxes(folder / "groundtruth.txt")
    inner = folder / "img"
    frames = image_files(inner if inner.is_dir() else folder)
    if not frames:
        raise ValueError(f"sequence: no images in {inner if inner.is_dir() else folder}")
    if len(frames) != len(boxes):
        raise ValueError(f"sequence: {folder} has {len(frames)} frames, but groundtruth.txt has {len(boxes)} rows")
    return Sequence(folder.resolve().name, tuple(frames), boxes)


def read_sequences(root: str | os.PathLike[str]) -> list[Sequence]:
    """Read `root` itself if it is a sequence, else every folder in it with a groundtruth.txt, by name.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no sequence in it, or a malformed one.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"sequences: {root} is not a folder")
    if (root / "groundtruth.txt").is_file():
        return [read_sequence(root)]
    read = [read_sequence(p) for p in folders(root) if (p / "groundtruth.txt").is_file()]
    if not read:
        raise ValueError(f"sequences: no folder with a groundtruth.txt in {root}")
    return read
