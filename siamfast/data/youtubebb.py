"""The reader of YouTube-BB: tables with the boxes of all videos, as shares of the frame; frames are separate."""

from __future__ import annotations

import csv
import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from siamfast.data.sequences import Sequence, proper_boxes
from siamfast.io.images import image_size
from siamfast.io.listing import entries, image_files

_NAME = re.compile(r"[\w-]+")


class AnnotatedVideo(NamedTuple):
    """tracks: class and object -> time -> box in shares, nan if absent. problems: the lines that cannot be read."""

    tracks: dict[str, dict[int, list[float]]]
    problems: list[tuple[Path, str]]


def annotated_videos(root: Path) -> dict[str, AnnotatedVideo]:
    """The videos of all annotation files, by name; files are read again when they have changed, because a dask worker
    outlives the command.

    Raises:
        ValueError: a line that names no video: whichever it belongs to would lack it.
    """
    return _annotated_videos(tuple((path, path.stat().st_mtime_ns) for path in entries(root, "*.csv")))


@functools.lru_cache(maxsize=2)
def _annotated_videos(tables: tuple[tuple[Path, int], ...]) -> dict[str, AnnotatedVideo]:
    videos: dict[str, AnnotatedVideo] = defaultdict(lambda: AnnotatedVideo(defaultdict(dict), []))
    for path, _ in tables:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            for number, row in enumerate(_rows(file), start=1):
                name = row[0].strip() if row else ""
                try:
                    _, time, kind, _, target, presence = (word.strip() for word in row[:6])
                    box = [np.nan] * 4 if presence == "absent" else [float(word) for word in row[6:10]]
                    if len(box) != 4 or not _NAME.fullmatch(name):
                        raise ValueError
                    videos[name].tracks[f"{kind}-{target}"][int(time)] = box
                except ValueError:
                    problem = f"line {number}: got {','.join(row)[:80]!r}, expected ten columns"
                    if number == 1:  # it may be a header
                        continue
                    if not _NAME.fullmatch(name):
                        raise ValueError(f"root: {path}, {problem}") from None
                    videos[name].problems.append((path, problem))
    return videos


def _rows(file: Iterable[str]) -> Iterator[list[str]]:
    """The rows of a CSV file; a row that cannot be split is empty."""
    rows = csv.reader(file)
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield []


def list_youtubebb(root: Path) -> list[Path]:
    """The folder of frames of each video in the annotation files, whether or not it exists."""
    folder = root / "frames" if (root / "frames").is_dir() else root
    return [folder / name for name in annotated_videos(root)]


def read_youtubebb(root: Path, video: Path, report: Callable[[Path, str], None]) -> tuple[Sequence, ...]:
    """ROOT/*.csv with rows of video, time in ms, class, class name, object, present or absent, xmin, xmax, ymin, ymax
    as shares of the frame; frames in ROOT/frames/<video>/<time>.jpg (or ROOT/<video>/<time>.jpg)."""
    annotated = annotated_videos(root)[video.name]
    for problem in annotated.problems:
        report(*problem)
    frames = image_files(video) if video.is_dir() else []
    if not frames:
        raise ValueError("no frames of this video")
    height, width = image_size(frames[0])
    sequences = []
    for target, places in annotated.tracks.items():
        boxes = np.full((len(frames), 4), np.nan)
        for number, frame in enumerate(frames):
            time = int(frame.stem) if frame.stem.isdecimal() else -1
            xmin, xmax, ymin, ymax = places.get(time, [np.nan] * 4)
            boxes[number] = xmin * width, ymin * height, (xmax - xmin) * width, (ymax - ymin) * height
        sequences.append(Sequence(f"{video.name}.{target}", tuple(frames), proper_boxes(boxes)))
    return tuple(sequences)
