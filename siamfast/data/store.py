"""Read a store of curated crops: JPEGs of every target in every frame, and an index of tracks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray

from siamfast.data.store_files import SUFFIX, VERSION, all_parts, key_of, naming_damage, reading_of
from siamfast.io.decoders import decode_pixels
from siamfast.io.listing import entries

_COLUMNS = 9  # numbers in an entry's row after the track: frame, box, visibility, scale, size


class StoredTrack(NamedTuple):
    """A target in a store.

    frames: (T,) int32, rising numbers. boxes: (T, 4) float32 in frame pixels. visibility: (T,), 0 to 1. scales: (T,)
    crop pixels per frame pixel. sizes: (T, 2) height, width of the frames.
    """

    video: str
    name: str
    frames: NDArray[np.int32]
    boxes: NDArray[np.float32]
    visibility: NDArray[np.float32]
    scales: NDArray[np.float32]
    sizes: NDArray[np.int32]


class CropStore:
    """Reads a store. It may be sent to other processes: each opens the files by itself.

    Args:
        folder: with one or more ``*.lmdb`` files, as written by `siamfast curate`.

    Raises:
        ValueError: no store there, or files made with different settings.

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
                f"store: the files in {self.folder} were made with different settings, or by another program"
            )
        with naming_damage(self.files[0]):
            self.meta: dict[str, Any] = dict(json.loads(metas[0] or b"{}"))
        if self.meta.get("version") != VERSION:
            raise ValueError(f"store: {self.folder} is of version {self.meta.get('version')}, expected {VERSION}")
        self.tracks: list[StoredTrack] = []
        self._places: list[tuple[int, str, str]] = []  # file, video, track
        self._read_tracks()
        self._numbers = {track.name: n for n, track in enumerate(self.tracks)}

    def _read_tracks(self) -> None:
        tables: dict[tuple[int, str, str], list[NDArray[np.float64]]] = {}
        for number, (path, env) in enumerate(zip(self.files, self._open(), strict=True)):
            with naming_damage(path):
                for video, _, entry in all_parts(path, env):
                    rows: dict[str, list[list[float]]] = {}
                    for track, *row in entry["crops"]:
                        rows.setdefault(track, []).append(row)
                    for (
                        track,
                        values,
                    ) in rows.items():  # converted to arrays at once: lists of millions of numbers would not fit
                        table = np.array(values, np.float64).reshape(len(values), _COLUMNS)
                        tables.setdefault((number, video, track), []).append(table)
        for place, parts in sorted(tables.items()):
            table = np.concatenate(parts)
            table = table[np.argsort(table[:, 0], kind="stable")]
            whole, real = table[:, [0, 7, 8]].astype(np.int32), table[:, 1:7].astype(np.float32)
            name = f"{place[1]}.{place[2]}"
            self.tracks.append(
                StoredTrack(place[1], name, whole[:, 0], real[:, :4], real[:, 4], real[:, 5], whole[:, 1:])
            )
            self._places.append(place)

    def __len__(self) -> int:
        return sum(len(track.frames) for track in self.tracks)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_environments": {}}

    def jpeg(self, track: StoredTrack, index: int, kind: str) -> bytes:
        """The JPEG of `track` in its index-th frame; kind: "z" for the exemplar, "x" for the instance crop."""
        if kind not in ("z", "x"):
            raise ValueError(f"kind: got {kind!r}, expected 'z' or 'x'")
        file, video, name = self._places[self._numbers[track.name]]
        content = self._get(file, key_of(kind, video, name, int(track.frames[index])))
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
        """List the errors: crops that are lost, cannot be decoded, or differ in size from the settings."""
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
            self._environments = {os.getpid(): [reading_of(path) for path in self.files]}
        return self._environments[os.getpid()]

    def _get(self, file: int, key: bytes) -> bytes | None:
        with naming_damage(self.files[file]), self._open()[file].begin() as reading:
            content: bytes | None = reading.get(key)
            return content
