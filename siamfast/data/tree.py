"""The writer of the original curation's tree of JPEG files, and the choice between it and the LMDB store."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from siamfast.data.curation import Recipe, Writer
from siamfast.data.store_writer import Part, StoreWriter
from siamfast.io.files import differences, naming, replacing

_SPLITS = {f"train/ILSVRC2015_VID_train_000{n}": f"train/{letter}" for n, letter in enumerate("abcd")} | {
    "val": "train/e"
}


def tree_folder(kind: str, video: str) -> Path:
    """The folder of a video's crops in the original tree: VID's training groups and its validation are train/a to e.

    >>> tree_folder("vid", "Annotations/VID/train/ILSVRC2015_VID_train_0001/v").as_posix()
    'Data/VID/train/b/v'
    """
    if kind != "vid":
        return Path(video).with_suffix("")
    group, _, name = video.removeprefix("Annotations/VID/").rpartition("/")
    return Path("Data/VID") / _SPLITS.get(group, group) / name


class TreeWriter:
    """Writes <video>/<frame>.<track>.crop.{z,x}.jpg below OUT, each under a temporary name first, and one line of
    OUT/parts.jsonl per complete part.

    Raises:
        ValueError: a folder with other settings.
    """

    def __init__(self, folder: Path, meta: dict[str, Any], name: str = "parts") -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._kind = str(meta["kind"])
        self._journal = self.folder / f"{name}.jsonl"
        lines = self._journal.read_text().splitlines(True) if self._journal.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        if whole and json.loads(whole[0]) != meta:
            changes = differences(json.loads(whole[0]), meta)
            raise ValueError(f"{self._journal} was made with other settings ({changes})")
        self._rows: dict[str, dict[int, dict[str, Any]]] = {}  # by video and first frame
        for line in whole[1:]:
            self._take(json.loads(line))
        if lines != whole or not whole:  # drop an incomplete last line
            text = "".join(whole) or json.dumps(meta) + "\n"
            with replacing(self._journal) as temporary:
                temporary.write_text(text)
        self._file = self._journal.open("a", encoding="utf-8")

    def done(self) -> dict[str, dict[int, int]]:
        return {
            video: {first: row["total"] for first, row in rows.items()}
            for video, rows in self._rows.items()
            if not any(row["errors"] for row in rows.values())
        }

    def add(self, part: Part) -> None:
        folder = (self.folder / tree_folder(self._kind, part.video)).resolve()
        if not folder.is_relative_to(self.folder):
            raise ValueError(f"{part.video} would be written outside of {self.folder}")
        if part.first == 0 and part.video in self._rows:  # read again: its targets may have changed
            for path in folder.glob("*.crop.[zx].jpg"):
                path.unlink()
        if part.crops:
            folder.mkdir(parents=True, exist_ok=True)
        for crop in part.crops:
            track = f"{int(crop.track):02d}" if crop.track.isdecimal() else crop.track
            for kind, content in (("z", crop.exemplar), ("x", crop.instance)):
                path = folder / f"{crop.frame:06d}.{track}.crop.{kind}.jpg"
                with replacing(path) as temporary:
                    temporary.write_bytes(content)
        row: dict[str, Any] = {"video": part.video, "first": part.first, "total": part.total, "errors": part.errors}
        with naming(self._journal):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self._take(row)

    def _take(self, row: dict[str, Any]) -> None:
        if row["first"] == 0:
            self._rows[row["video"]] = {}
        self._rows.setdefault(row["video"], {})[row["first"]] = row

    def errors(self) -> Iterator[tuple[str, str]]:
        for rows in self._rows.values():
            for row in rows.values():
                yield from map(tuple, row["errors"])

    def close(self) -> None:
        self._file.close()


def writer_name(layout: str, shard: tuple[int, int] = (1, 1)) -> str:
    """Name of a shard's own file, without its ending."""
    return ("crops" if layout == "lmdb" else "parts") + ("" if shard == (1, 1) else f"-{shard[0]}-of-{shard[1]}")


def make_writer(layout: str, out: Path, recipe: Recipe, shard: tuple[int, int] = (1, 1)) -> Writer:
    """The writer of a layout, "lmdb" or "tree"."""
    if layout not in ("lmdb", "tree"):
        raise ValueError(f"layout: got {layout!r}, expected lmdb or tree")
    writer = StoreWriter if layout == "lmdb" else TreeWriter
    return writer(out, asdict(recipe), writer_name(layout, shard))
