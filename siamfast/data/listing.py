"""What is in a folder of data, without what tools leave there: notebooks, file managers, archivers, network drives."""

from __future__ import annotations

from pathlib import Path

# Beside names that begin with a dot: .ipynb_checkpoints, ._* of macOS, .DS_Store, .thumbnails, .git.
_LEFT_BY_TOOLS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__"}


def is_left_by_tools(path: Path) -> bool:
    """Whether a file or folder is no part of the data, by its name.

    >>> [is_left_by_tools(Path(name)) for name in ("._1.jpg", "__MACOSX", "1.jpg")]
    [True, True, False]
    """
    return path.name.startswith(".") or path.name in _LEFT_BY_TOOLS


def entries(folder: Path, pattern: str = "*") -> list[Path]:
    """Files and folders in `folder` that match a glob, sorted; nothing that tools leave, at any depth of the glob."""
    found = (path for path in folder.glob(pattern))
    return sorted(p for p in found if not any(is_left_by_tools(Path(part)) for part in p.relative_to(folder).parts))


def folders(folder: Path, pattern: str = "*") -> list[Path]:
    """The folders among `entries`."""
    return [path for path in entries(folder, pattern) if path.is_dir()]


def existing(folder: Path, what: str) -> Path:
    """`folder` itself.

    Raises:
        ValueError: it is not there; `what` says what it is looked for.
    """
    if not folder.is_dir():
        raise ValueError(f"root: {folder} is not a folder, where {what}")
    return folder
