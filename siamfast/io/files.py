"""Files that are there whole or not at all, errors that say which file, folders that one command at a time writes."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """An OSError within it says which file: one of a write, such as that the disk is full, does not by itself."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to it when the block ends, removed when it raises.

    Its ending is that of `path`, which some writers choose the format by. A kill leaves the old file or the new one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.txt']
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        with naming(target):
            yield temporary
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def only_writer(folder: str | os.PathLike[str], name: str) -> Iterator[None]:
    """Within it no other process is within it for the same `name` in `folder`, which is made where it is not.

    The lock is the kernel's, on the file FOLDER/.NAME.lock: it ends with the process, however that ends.

    Raises:
        ValueError: another process is.
    """
    path = Path(folder) / f".{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{os.fspath(folder)}: another command is writing there ({path.name} is locked); wait for it, or write "
                "to another folder"
            ) from None
        except OSError:  # a file system that has no locks: better two writers than none
            pass
        yield


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Where two sets of settings differ, for a message; empty where they do not.

    >>> differences({"quality": 90, "kind": "otb"}, {"quality": 80, "kind": "otb"})
    'quality: 90 there, 80 here'
    """
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return ", ".join(f"{name}: {there.get(name)!r} there, {here.get(name)!r} here" for name in names)
