"""Names of output files: what a command does not write over."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def check_output(option: str, path: str, inputs: Sequence[str | None], *, begins: str = "") -> None:
    """Refuse a name that would cost the user a file.

    Args:
        option: its name in errors. path: the file to write. inputs: files and folders that the command reads.
        begins: of a file that this command has written; a file of that name that begins otherwise is somebody else's.

    Raises:
        ValueError: an empty name, an input or a file of an input's folder, or somebody else's file.
    """
    if not path:
        raise ValueError(f"{option}: got an empty name")
    there = Path(path)
    if not there.exists():
        return
    for source in inputs:
        if not source or not os.path.exists(source):
            continue
        if there.samefile(source):
            raise ValueError(f"{option}: {path} is an input")
        if os.path.isdir(source) and Path(source).resolve() in there.resolve().parents:
            raise ValueError(f"{option}: {path} is a file of the input {source}, which would be overwritten")
    if begins and there.is_file() and there.stat().st_size:
        with there.open("rb") as file:
            if file.read(len(begins)) != begins.encode():
                raise ValueError(f"{option}: {path} is another file, which would be overwritten; remove it first")


def name_of_a_part(path: str | os.PathLike[str]) -> Path:
    """The name for what Ctrl-C left of an output: a name beside it where a whole file is there already.

    >>> name_of_a_part("boxes.csv").name
    'boxes.csv'
    """
    whole = Path(path)
    return whole.with_name(f"{whole.stem}.stopped{whole.suffix}") if whole.exists() else whole
