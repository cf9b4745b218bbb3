"""Write a store of crops: one part of a video at a time, each completely or not at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from siamfast.data.store_files import SUFFIX, VERSION, all_parts, key_of, open_file, parts
from siamfast.io.files import differences

_FIRST_SIZE = 1 << 28  # bytes of the map, which grows by doubling


class Crop(NamedTuple):
    """One target in one frame: JPEGs of its exemplar and instance crop, both around the middle of its box; box x, y,
    w, h in frame pixels; scale: crop pixels per frame pixel; size: height and width of the frame."""

    track: str
    frame: int
    exemplar: bytes
    instance: bytes
    box: tuple[float, float, float, float]
    visibility: float
    scale: float
    size: tuple[int, int]


class Part(NamedTuple):
    """The contents of one transaction: some frames of a video of `total` frames, from the `first`-th on, with their
    reading errors."""

    video: str
    first: int
    total: int
    crops: list[Crop]
    errors: list[tuple[str, str]]


class StoreWriter:
    """Writes parts into OUT/<name>.lmdb.

    Args:
        folder: the store; made if missing.
        meta: the settings of the crops; an existing file must have the same.
        name: of the file; different for each process that writes at the same time.

    Raises:
        ValueError: an existing file has other settings, or is not a store.
    """

    def __init__(self, folder: Path, meta: dict[str, Any], name: str = "crops") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / (name + SUFFIX)
        self._size = max(_FIRST_SIZE, 2 * self.path.stat().st_size if self.path.exists() else 0)
        self._env = open_file(self.path, map_size=self._size, subdir=False, sync=True, metasync=True)
        meta = {"version": VERSION, **meta}
        with self._env.begin() as reading:
            recorded = reading.get(b"meta")
        if recorded is not None and json.loads(recorded) != meta:
            self._env.close()
            raise ValueError(f"{self.path} was made with other settings ({differences(json.loads(recorded), meta)})")
        if recorded is None:
            with self._written() as writing:
                writing.put(b"meta", json.dumps(meta).encode())

    def done(self) -> dict[str, dict[int, int]]:
        videos: dict[str, dict[int, int]] = {}
        bad = set()
        for video, first, entry in all_parts(self.path, self._env):
            videos.setdefault(video, {})[first] = entry["total"]
            if entry["errors"]:
                bad.add(video)
        return {video: parts for video, parts in videos.items() if video not in bad}

    def add(self, part: Part) -> None:
        while True:  # until the map is large enough
            try:
                with self._written() as writing:
                    if part.first == 0:
                        _remove(writing, part.video)
                    for crop in part.crops:
                        place = part.video, crop.track, crop.frame
                        writing.put(key_of("z", *place), crop.exemplar)
                        writing.put(key_of("x", *place), crop.instance)
                    rows = [
                        (c.track, c.frame, *(round(v, 3) for v in (*c.box, c.visibility)), round(c.scale, 6), *c.size)
                        for c in part.crops
                    ]
                    entry = {"total": part.total, "crops": rows, "errors": part.errors}
                    writing.put(key_of("done", part.video, part.first), json.dumps(entry).encode())
                return
            except lmdb.MapFullError:
                self._size *= 2
                self._env.set_mapsize(self._size)

    @contextlib.contextmanager
    def _written(self) -> Iterator[lmdb.Transaction]:
        try:
            with self._env.begin(write=True) as writing:
                yield writing
        except lmdb.MapFullError:
            raise
        except lmdb.Error as error:
            raise OSError(f"{self.path} cannot be written ({error})") from error

    def errors(self) -> Iterator[tuple[str, str]]:
        """(path, reason) of all unreadable files, in the order of the parts."""
        for _, _, entry in all_parts(self.path, self._env):
            yield from map(tuple, entry["errors"])

    def close(self) -> None:
        self._env.close()


def _remove(writing: lmdb.Transaction, video: str) -> None:
    """Remove all parts of a video, with their crops."""
    keys = []
    for name, first, entry in parts(writing, video):
        if name == video:
            keys.append(key_of("done", video, first))
            keys += [key_of(kind, video, track, frame) for track, frame, *_ in entry["crops"] for kind in "zx"]
    for key in keys:
        writing.delete(key)
