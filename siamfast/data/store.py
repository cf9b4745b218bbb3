"""The store of curated crops: LMDB files that hold JPEGs of every target in every frame, and an index of tracks.

Keys of a file (docs/data.md): `meta` JSON, how the crops were made; `done:<video>:<first frame>` JSON, what a committed
part of a video holds; `z:<video>:<track>:<frame>` and `x:...` JPEGs. A part is one transaction: it is there as a whole
or not at all, whenever the process was killed. A store is a folder of such files, one for each machine that wrote.
"""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray

from siamfast.io.decoders import decode_pixels
from siamfast.io.listing import entries

VERSION = 2
SUFFIX = ".lmdb"
_FIRST_SIZE = 1 << 28  # of the map, which grows by doubling


class Crop(NamedTuple):
    """One target in one frame: JPEGs of its exemplar and its instance crop, both around its box's middle; box x, y,
    w, h in frame pixels; scale: crop pixels a frame pixel; size: height and width of the frame."""

    track: str
    frame: int
    exemplar: bytes
    instance: bytes
    box: tuple[float, float, float, float]
    visibility: float
    scale: float
    size: tuple[int, int]


class Part(NamedTuple):
    """What one transaction holds: some frames of a video of `total`, from the `first`-th on, with what could not be
    read of them."""

    video: str
    first: int
    total: int
    crops: list[Crop]
    errors: list[tuple[str, str]]


class StoredTrack(NamedTuple):
    """A target of a store.

    frames: (T,) int32, rising numbers. boxes: (T, 4) float32 in frame pixels. visibility: (T,), 0 to 1. scales:
    (T,) crop pixels a frame pixel. sizes: (T, 2) height, width of the frames.
    """

    video: str
    name: str
    frames: NDArray[np.int32]
    boxes: NDArray[np.float32]
    visibility: NDArray[np.float32]
    scales: NDArray[np.float32]
    sizes: NDArray[np.int32]


def _key(kind: str, *words: object) -> bytes:
    return ":".join((kind, *map(str, words))).encode()


class StoreWriter:
    """Writes parts into OUT/<name>.lmdb.

    Args:
        folder: the store; made where it is not.
        meta: how crops are made; a file that is there must have the same.
        name: of the file; another one for each process that writes at the same time.

    Raises:
        ValueError: a file with other settings, or one that is no store.
    """

    def __init__(self, folder: Path, meta: dict[str, Any], name: str = "crops") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / (name + SUFFIX)
        self._size = max(_FIRST_SIZE, 2 * self.path.stat().st_size if self.path.exists() else 0)
        self._env = _open(self.path, map_size=self._size, subdir=False, sync=True, metasync=True)
        meta = {"version": VERSION, **meta}
        with self._env.begin() as reading:
            recorded = reading.get(b"meta")
        if recorded is not None and json.loads(recorded) != meta:
            self._env.close()
            raise ValueError(f"{self.path} was made with {recorded.decode()}, expected {json.dumps(meta)}")
        if recorded is None:
            with self._written() as writing:
                writing.put(b"meta", json.dumps(meta).encode())

    def done(self) -> dict[str, dict[int, int]]:
        videos: dict[str, dict[int, int]] = {}
        bad = set()
        for video, first, entry in _all_parts(self._env):
            videos.setdefault(video, {})[first] = entry["total"]
            if entry["errors"]:
                bad.add(video)
        return {video: parts for video, parts in videos.items() if video not in bad}

    def add(self, part: Part) -> None:
        while True:  # the map grows as it must
            try:
                with self._written() as writing:
                    if part.first == 0:
                        _remove(writing, part.video)
                    for crop in part.crops:
                        place = part.video, crop.track, crop.frame
                        writing.put(_key("z", *place), crop.exemplar)
                        writing.put(_key("x", *place), crop.instance)
                    rows = [
                        (c.track, c.frame, *(round(v, 3) for v in (*c.box, c.visibility)), round(c.scale, 6), *c.size)
                        for c in part.crops
                    ]
                    entry = {"total": part.total, "crops": rows, "errors": part.errors}
                    writing.put(_key("done", part.video, part.first), json.dumps(entry).encode())
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
        """(path, reason) of all that could not be read, in the parts' order."""
        for _, _, entry in _all_parts(self._env):
            yield from map(tuple, entry["errors"])

    def close(self) -> None:
        self._env.close()


def _remove(writing: lmdb.Transaction, video: str) -> None:
    """Remove all parts of a video, with their crops."""
    keys = []
    for name, first, entry in _parts(writing, video):
        if name == video:
            keys.append(_key("done", video, first))
            keys += [_key(kind, video, track, frame) for track, frame, *_ in entry["crops"] for kind in "zx"]
    for key in keys:
        writing.delete(key)


def _open(path: Path, **options: Any) -> lmdb.Environment:
    try:
        return lmdb.open(str(path), max_dbs=0, **options)
    except lmdb.Error as error:
        raise ValueError(f"{path} cannot be opened as a store ({error})") from error


# A process may open a file only once: stores of the same folder share it.
_SHARED: weakref.WeakValueDictionary[tuple[int, Path], lmdb.Environment] = weakref.WeakValueDictionary()


def _forget() -> None:
    """In a forked child: what the parent has open is not to be used here, and must be closed to be opened anew."""
    for env in list(_SHARED.values()):
        env.close()
    _SHARED.clear()


os.register_at_fork(after_in_child=_forget)


def _reading(path: Path) -> lmdb.Environment:
    key = os.getpid(), path.resolve()
    env = _SHARED.get(key)
    if env is None:
        env = _SHARED[key] = _open(path, subdir=False, readonly=True, lock=False, readahead=False)
    return env


def _all_parts(env: lmdb.Environment) -> Iterator[tuple[str, int, dict[str, Any]]]:
    with env.begin() as reading:
        yield from _parts(reading)


def _parts(reading: lmdb.Transaction, start: str = "") -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(video, first frame, entry) of every part of a file, by key; of videos whose name has that start."""
    prefix = _key("done", start)
    with reading.cursor() as cursor:
        if not cursor.set_range(prefix):
            return
        for key, value in cursor:
            if not bytes(key).startswith(prefix):
                return
            video, _, first = bytes(key).decode().removeprefix("done:").rpartition(":")
            yield video, int(first), json.loads(bytes(value))


class CropStore:
    """A store to read from. It may be sent to other processes: each opens the files by itself.

    Args:
        folder: with one or more *.lmdb files, as `siamfast curate` leaves them.

    Raises:
        ValueError: no store there, or files that were made with different settings.

    >>> store = CropStore("curated")  # doctest: +SKIP
    >>> store.crop(store.tracks[0], 0, "x").shape  # doctest: +SKIP
    (255, 255, 3)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.files = entries(self.folder, "*" + SUFFIX) if self.folder.is_dir() else []
        if not self.files:
            raise ValueError(f"store: no *{SUFFIX} in {self.folder} (made by `siamfast curate`)")
        self._environments: dict[int, list[lmdb.Environment]] = {}
        metas = [self._get(n, b"meta") for n in range(len(self.files))]
        if any(meta is None for meta in metas) or len({bytes(meta) for meta in metas if meta}) > 1:
            raise ValueError(
                f"store: the files in {self.folder} were made with different settings, or are none of ours"
            )
        self.meta: dict[str, Any] = json.loads(metas[0] or b"{}")
        if self.meta.get("version") != VERSION:
            raise ValueError(f"store: {self.folder} is of version {self.meta.get('version')}, expected {VERSION}")
        tables: dict[tuple[int, str, str], list[NDArray[np.float64]]] = {}
        for number, env in enumerate(self._open()):
            for video, _, entry in _all_parts(env):
                rows: dict[str, list[list[float]]] = {}
                for track, *row in entry["crops"]:
                    rows.setdefault(track, []).append(row)
                for track, values in rows.items():  # arrays at once: lists of millions of numbers would not fit
                    tables.setdefault((number, video, track), []).append(np.array(values, np.float64))
        self.tracks: list[StoredTrack] = []
        self._places: list[tuple[int, str, str]] = []  # file, video, track
        for place, parts in sorted(tables.items()):
            table = np.concatenate(parts)
            table = table[np.argsort(table[:, 0], kind="stable")]
            whole, real = table[:, [0, 7, 8]].astype(np.int32), table[:, 1:7].astype(np.float32)
            name = f"{place[1]}.{place[2]}"
            self.tracks.append(
                StoredTrack(place[1], name, whole[:, 0], real[:, :4], real[:, 4], real[:, 5], whole[:, 1:])
            )
            self._places.append(place)
        self._numbers = {track.name: n for n, track in enumerate(self.tracks)}

    def __len__(self) -> int:
        return sum(len(track.frames) for track in self.tracks)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_environments": {}}

    def jpeg(self, track: StoredTrack, index: int, kind: str) -> bytes:
        """The JPEG of `track` in its index-th frame; kind: "z" for the exemplar, "x" for the instance crop."""
        if kind not in ("z", "x"):
            raise ValueError(f"kind: got {kind!r}, expected 'z' or 'x'")
        file, video, name = self._places[self._numbers[track.name]]
        content = self._get(file, _key(kind, video, name, int(track.frames[index])))
        if content is None:
            raise ValueError(f"store: {self.files[file]} has lost {kind} of {track.name}, frame {track.frames[index]}")
        return content

    def crop(self, track: StoredTrack, index: int, kind: str) -> NDArray[np.uint8]:
        """`jpeg`, decoded: (S, S, 3) uint8 RGB."""
        content = self.jpeg(track, index, kind)
        try:
            image = decode_pixels(content)
        except ValueError as error:
            raise ValueError(f"store: {kind} of {track.name}, frame {track.frames[index]}, {error}") from None
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)

    def verify(self) -> Iterator[str]:
        """What is wrong: crops that are lost, cannot be decoded, or have another size than the settings say."""
        sides = {"z": self.meta["exemplar"], "x": self.meta["instance"]}
        for track in self.tracks:
            for index in range(len(track.frames)):
                for kind, side in sides.items():
                    try:
                        shape = self.crop(track, index, kind).shape
                    except ValueError as error:
                        yield str(error)
                        continue
                    if shape != (side, side, 3):
                        yield f"{kind} of {track.name}, frame {track.frames[index]}, is {shape}, expected {side} pixels"

    def _open(self) -> list[lmdb.Environment]:
        # A file opened before a fork must not be used after it.
        if os.getpid() not in self._environments:
            self._environments = {os.getpid(): [_reading(path) for path in self.files]}
        return self._environments[os.getpid()]

    def _get(self, file: int, key: bytes) -> bytes | None:
        with self._open()[file].begin() as reading:
            content: bytes | None = reading.get(key)
            return content
