"""List folders of data without the files of tools: notebooks, file managers, archivers, network drives."""

from __future__ import annotations

import re
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
# In addition to names that begin with a dot: .ipynb_checkpoints, ._* of macOS, .DS_Store, .thumbnails, .git.
_LEFT_BY_TOOLS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__"}


def is_left_by_tools(path: Path) -> bool:
    """Whether a file or folder is not data but left by a tool, by its name.

    >>> [is_left_by_tools(Path(name)) for name in ("._1.jpg", "__MACOSX", "1.jpg")]
    [True, True, False]
    """
    return path.name.startswith(".") or path.name in _LEFT_BY_TOOLS


def entries(folder: Path, pattern: str = "*") -> list[Path]:
    """Files and folders in `folder` that match a glob, sorted, without those of tools at any depth of the glob."""
    paths = (path for path in folder.glob(pattern))
    return sorted(p for p in paths if not any(is_left_by_tools(Path(part)) for part in p.relative_to(folder).parts))


def folders(folder: Path, pattern: str = "*") -> list[Path]:
    """The folders among `entries`."""
    return [path for path in entries(folder, pattern) if path.is_dir()]


def existing(folder: Path, what: str) -> Path:
    """`folder` itself, if it exists.

    Raises:
        ValueError: it does not; `what` tells what is expected there.
    """
    if not folder.is_dir():
        raise ValueError(f"root: {folder} is not a folder, where {what}")
    return folder


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sorts names by their numbers: frame2 before frame10.

    >>> sorted([Path("f10.jpg"), Path("f2.jpg")], key=natural_key)[0].name
    'f2.jpg'
    """
    parts = re.split(r"(\d+)", path.name)
    return tuple((1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts)


def image_files(folder: Path) -> list[Path]:
    """The image files directly in `folder`, sorted by the numbers in their names, without those of tools."""
    return sorted((p for p in entries(folder) if p.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)
