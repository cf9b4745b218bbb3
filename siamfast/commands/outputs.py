"""Names of output files: what a command does not write over."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path


def check_output(option: str, path: str, inputs: Sequence[str | None], is_own: Callable[[Path], bool]) -> None:
    """Refuse a name that would cost the user a file.

    Args:
        option: its name in errors. path: the file to write. inputs: files, folders and globs that the command reads.
        is_own: whether a file is one that this command has written; any other of that name is somebody else's.

    Raises:
        ValueError: an empty name, an input or a file of an input's folder, or somebody else's file.
    """
    if not path:
        raise ValueError(f"{option}: got an empty name")
    there = Path(path)
    if not there.exists():
        return
    for source in inputs:
        if source and glob.has_magic(source) and any(there.samefile(file) for file in glob.glob(source)):
            raise ValueError(f"{option}: {path} is an input")
        if not source or not os.path.exists(source):
            continue
        if there.samefile(source):
            raise ValueError(f"{option}: {path} is an input")
        if os.path.isdir(source) and Path(source).resolve() in there.resolve().parents:
            raise ValueError(f"{option}: {path} is a file of the input {source}, which would be overwritten")
    if there.is_file() and there.stat().st_size and not is_own(there):
        raise ValueError(f"{option}: {path} is another file, which would be overwritten; remove it first")


def begins_with(*beginnings: str) -> Callable[[Path], bool]:
    """For `check_output`: whether a file begins with one of these."""

    def check(path: Path) -> bool:
        with path.open("rb") as file:
            begin = file.read(max(map(len, beginnings)))
        return any(begin.startswith(text.encode()) for text in beginnings)

    return check


def name_of_a_part(path: str | os.PathLike[str]) -> Path:
    """The name for what Ctrl-C left of an output: a name beside it where a whole file is there already.

    >>> name_of_a_part("boxes.csv").name
    'boxes.csv'
    """
    whole = Path(path)
    return whole.with_name(f"{whole.stem}.stopped{whole.suffix}") if whole.exists() else whole
