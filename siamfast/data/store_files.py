"""The files of a store of crops: their keys, opening them, and listing their parts in order.

Keys of a file (docs/data.md): `meta` JSON, the settings of the crops; `done:<video>:<first frame>` JSON, the contents
of a committed part of a video; `z:<video>:<track>:<frame>` and `x:...` JPEGs. A part is one transaction: whenever the
process is killed, it is complete or absent. A store is a folder of such files, one per machine that wrote.
"""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb

VERSION = 2
SUFFIX = ".lmdb"


def key_of(kind: str, *words: object) -> bytes:
    """A key in the form above."""
    return ":".join((kind, *map(str, words))).encode()


@contextlib.contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turn LMDB's errors about a damaged file, and foreign entries, into a ValueError that names the file."""
    try:
        yield
    except (lmdb.Error, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        if str(error).startswith("store: "):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"store: {path} is damaged ({reason})") from error


def open_file(path: Path, **options: Any) -> lmdb.Environment:
    """Open a file; ValueError if it is not LMDB's or is cut short."""
    try:
        env = lmdb.open(str(path), max_dbs=0, **options)
    except lmdb.Error as error:
        raise ValueError(f"{path} cannot be opened as a store ({error})") from error
    # LMDB maps the file: reading beyond its end would kill the process.
    least = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if path.stat().st_size < least:
        env.close()
        raise ValueError(f"store: {path} is cut short: it has {path.stat().st_size} bytes of {least}")
    return env


# A process may open a file only once: stores of the same folder share it.
_SHARED: weakref.WeakValueDictionary[tuple[int, Path], lmdb.Environment] = weakref.WeakValueDictionary()


def _forget() -> None:
    """In a forked child: close the parent's open files, which must not be used here, so that they can be opened
    again."""
    for env in list(_SHARED.values()):
        env.close()
    _SHARED.clear()


os.register_at_fork(after_in_child=_forget)


def reading_of(path: Path) -> lmdb.Environment:
    """A file opened for reading, shared by all stores of this process."""
    key = os.getpid(), path.resolve()
    env = _SHARED.get(key)
    if env is None:
        env = _SHARED[key] = open_file(path, subdir=False, readonly=True, lock=False, readahead=False)
    return env


def all_parts(path: Path, env: lmdb.Environment) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(video, first frame, entry) of every part of a file, by key."""
    with naming_damage(path), env.begin() as reading:
        yield from parts(reading)


def parts(reading: lmdb.Transaction, start: str = "") -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(video, first frame, entry) of every part of a file, by key, for videos with names that begin with `start`."""
    prefix = key_of("done", start)
    with reading.cursor() as cursor:
        if not cursor.set_range(prefix):
            return
        for key, value in cursor:
            if not bytes(key).startswith(prefix):
                return
            video, _, first = bytes(key).decode().removeprefix("done:").rpartition(":")
            yield video, int(first), json.loads(bytes(value))
