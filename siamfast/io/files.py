"""Write files completely or not at all, name the file in errors, and lock folders for one command at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in an OSError of this context: errors of a write, such as a full disk, do not name it
    themselves."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def temporary_beside(path: Path) -> Path:
    """The name that a file has until it is whole: hidden, this process's own, and with the same ending, by which FFmpeg
    and others choose the format.

    >>> temporary_beside(Path("runs/a.mp4")).suffix
    '.mp4'
    """
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to `path` when the block ends, removed if it raises.

    A kill leaves either the old or the new file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.txt']
    """
    target = Path(path)
    temporary = temporary_beside(target)
    try:
        with naming(target):
            yield temporary
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def only_writer(folder: str | os.PathLike[str], name: str) -> Iterator[None]:
    """Lock `name` in `folder` against other processes; the folder is made if missing.

    It is the kernel's lock on the file FOLDER/.NAME.lock: it ends with the process, however that ends.

    Raises:
        ValueError: another process has the lock.
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
        except OSError:  # a file system without locks: better two writers than none
            pass
        yield


def differences(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """The differences between two sets of settings, for a message; empty if there are none.

    >>> differences({"quality": 90, "kind": "otb"}, {"quality": 80, "kind": "otb"})
    'quality: 90 there, 80 here'
    """
    names = [name for name in {**recorded, **current} if recorded.get(name) != current.get(name)]
    return ", ".join(f"{name}: {recorded.get(name)!r} there, {current.get(name)!r} here" for name in names)
