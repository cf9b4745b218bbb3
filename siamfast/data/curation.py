"""Curation: decode every frame of a data set once, crop its targets, encode and store the crops, part by part."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from siamfast.data.readers import list_videos, read_video
from siamfast.data.sequences import Sequence
from siamfast.data.store_writer import Crop, Part
from siamfast.engine import Engine
from siamfast.geometry import box_centers_by_index, resized_index
from siamfast.io.images import decode_bgr
from siamfast.ops.crop_and_resize import crop_and_resize, mean_color
from siamfast.ops.siamfc_crops import context_size
from siamfast.workers import LastFew

_VIDEOS_KEPT = 4  # videos that a thread keeps in memory
PART = 64  # frames per part: the work repeated after a kill, and a worker's memory


@dataclass(frozen=True)
class Recipe:
    """The settings of the crops. Sides in pixels; context_amount as a share of w + h; quality of the JPEGs, 1 to
    100."""

    kind: str
    exemplar: int = 127
    instance: int = 255
    context_amount: float = 0.5
    quality: int = 90

    def __post_init__(self) -> None:
        for name, low, high in (("exemplar", 16, 4096), ("instance", self.exemplar, 4096), ("quality", 1, 100)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected {low} to {high}")
        if not 0 <= self.context_amount <= 10:
            raise ValueError(f"context_amount: got {self.context_amount}, expected 0 to 10")


class Writer(Protocol):
    """Writes parts: a StoreWriter or a TreeWriter."""

    def done(self) -> dict[str, dict[int, int]]:
        """video -> first frame -> total, for every stored part of the videos that were read without an error.

        The others are read again: somebody may have repaired them.
        """

    def add(self, part: Part) -> None:
        """Commit a part. A video's first part replaces everything stored of that video.

        Raises:
            OSError: it cannot be written; the message names the file.
        """

    def errors(self) -> Iterator[tuple[str, str]]: ...
    def close(self) -> None: ...


_Contents = tuple[tuple[Sequence, ...], list[tuple[str, str]]]


_recent = LastFew[_Contents](_VIDEOS_KEPT)


def _video(kind: str, root: Path, video: Path, anew: bool) -> _Contents:
    """The sequences of a video, and (path, reason) of its unreadable files.

    anew: read it in any case, because another run of this process may have read it before it was repaired.
    """

    def read() -> _Contents:
        problems: list[tuple[str, str]] = []
        targets = read_video(kind, root, video, lambda path, reason: problems.append((_relative(path, root), reason)))
        return targets, problems

    return _recent.get((kind, root, video), read, anew=anew)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def decode_frame(path: Path, shrink: int = 1) -> tuple[NDArray[np.uint8], int]:
    """A frame decoded by `siamfast.io.images.decode_bgr`."""
    return decode_bgr(path.read_bytes(), shrink)


def curate_part(recipe: Recipe, root: Path, video: Path, first: int) -> Part:
    """The crops of all targets in frames first .. first + PART - 1 of a video."""
    sequences, problems = _video(recipe.kind, root, video, first == 0)
    name = _relative(video, root)
    errors = list(problems) if first == 0 else []
    if not sequences and not errors and not video.exists():  # this machine does not have it
        errors.append((name, "is not there"))
    total = len(sequences[0].frames) if sequences else 0
    crops: list[Crop] = []
    numbers = _numbers(sequences[0].frames) if sequences else []
    for index in range(first, min(first + PART, total)):
        visible = [n for n, s in enumerate(sequences) if np.isfinite(s.boxes[index]).all()]
        if not visible:
            continue
        path = sequences[0].frames[index]
        try:
            crops += _crops(recipe, path, index, numbers[index], {_track(sequences, n): sequences[n] for n in visible})
        except (ValueError, OSError) as error:
            errors.append((_relative(path, root), str(error)))
    return Part(name, first, total, crops, errors)


def _track(sequences: tuple[Sequence, ...], number: int) -> str:
    """The key of a target within its video: the end of its name, or its number."""
    ends = [re.sub(r"\W", "_", s.name.rpartition(".")[2]) for s in sequences]
    return ends[number] if len(sequences) > 1 and len(set(ends)) == len(ends) else str(number)


def _numbers(frames: tuple[Path, ...]) -> list[int]:
    """Frame numbers: from the names, because frames may be missing; without numbers in the names, in order."""
    if not all(frame.stem.isdecimal() and frame.stem.isascii() for frame in frames):
        return list(range(len(frames)))
    indices = [int(frame.stem) for frame in frames]
    return indices if len(set(indices)) == len(indices) else list(range(len(frames)))


def _crops(recipe: Recipe, path: Path, index: int, number: int, targets: dict[str, Sequence]) -> list[Crop]:
    """The crops of all targets in one frame. index: the frame's place in the sequences; number: its key in the
    store."""
    boxes = np.stack([sequence.boxes[index] for sequence in targets.values()])
    sizes = np.asarray(context_size(boxes, context_amount=recipe.context_amount), float)
    smallest = float(sizes.min()) / recipe.exemplar
    image, shrink = decode_frame(path, 4 if smallest >= 4 else 2 if smallest >= 2 else 1)
    centers = resized_index(box_centers_by_index(boxes), shrink)
    ratio = recipe.instance / recipe.exemplar
    fill = np.floor(mean_color(image))  # truncated, as in the original curation
    sides = {"exemplar": (sizes / shrink, recipe.exemplar), "instance": (sizes * ratio / shrink, recipe.instance)}
    images = {
        kind: crop_and_resize(image, centers, np.maximum(size, 1), side, fill=fill)
        for kind, (size, side) in sides.items()
    }
    option = [cv2.IMWRITE_JPEG_QUALITY, recipe.quality]
    crops = []
    for n, (track, sequence) in enumerate(targets.items()):
        jpegs = [cv2.imencode(".jpg", images[kind][n], option)[1].tobytes() for kind in ("exemplar", "instance")]
        scale = recipe.exemplar / sizes[n]
        x, y, w, h = boxes[n].tolist()
        visibility = 1.0 if sequence.visibility is None else float(sequence.visibility[index])
        size = image.shape[0] * shrink, image.shape[1] * shrink
        crops.append(Crop(track, number, jpegs[0], jpegs[1], (x, y, w, h), visibility, float(scale), size))
    return crops


def curate(
    recipe: Recipe,
    root: Path,
    writer: Writer,
    *,
    engine: Engine | None = None,
    shard: tuple[int, int] = (1, 1),
    progress: Any = None,
    made: Counter[str] | None = None,
) -> None:
    """Make the parts that `writer` does not have, and write them in this process.

    Args:
        engine: makes them (`siamfast.engine.open_engine`); None: this process.
        shard: (i, n): every n-th video, from the i-th on.
        progress: a tqdm bar of videos; None: none.
        made: the "frames" and "crops" that this call makes are added to it.

    Raises:
        ValueError: no such data set. RuntimeError: workers are gone; committed parts stay.
    """
    videos = list_videos(recipe.kind, root)[shard[0] - 1 :: shard[1]]
    work = _Work(root, videos, writer, progress, Counter() if made is None else made)
    for task, part in (engine or Engine()).run(partial(_make_part, recipe, root), work.tasks):
        work.store(task, part)


class _Task(NamedTuple):
    """A part to make: frames `first` and following of a video."""

    video: Path
    first: int


def _make_part(recipe: Recipe, root: Path, task: _Task) -> Part:
    return curate_part(recipe, root, task.video, task.first)


class _Work:
    """The parts of some videos that a writer does not have.

    tasks: the missing parts that are known: of a video without its first part, only that one, because it has the number
    of frames. `store` writes a part and adds the tasks that follow from it.
    """

    def __init__(self, root: Path, videos: list[Path], writer: Writer, progress: Any, made: Counter[str]) -> None:
        self.root = root
        self._writer, self._progress, self._made = writer, progress, made
        self._stored = writer.done()
        self._began = time.perf_counter()
        if progress is not None:
            progress.reset(total=len(videos))
        self.tasks: deque[_Task] = deque()
        self._left: Counter[Path] = Counter()  # parts to come, by video
        for video in videos:
            stored = self._stored.get(_relative(video, root), {})
            missing = self._missing(video, stored[0]) if 0 in stored else [_Task(video, 0)]
            self._left[video] = len(missing)
            self.tasks += missing
            self._count_video(video)

    def store(self, task: _Task, part: Part) -> None:
        """Write a part; the tasks that follow from a video's first one come next."""
        self._writer.add(part)
        made = self._made
        made["frames"] += min(PART, part.total - part.first)
        made["crops"] += 2 * len(part.crops)  # an exemplar and an instance of each target
        following = self._missing(task.video, part.total) if part.first == 0 else []
        self.tasks.extendleft(reversed(following))
        self._left[task.video] += len(following) - 1
        if self._progress is not None:
            rate = made["frames"] / (time.perf_counter() - self._began)
            self._progress.set_postfix_str(f"{made['crops']} crops, {rate:.0f} frames/s", refresh=False)
        self._count_video(task.video)

    def _count_video(self, video: Path) -> None:
        if self._progress is not None and not self._left[video]:
            self._progress.update(1)

    def _missing(self, video: Path, total: int) -> list[_Task]:
        stored = self._stored.get(_relative(video, self.root), {})
        return [_Task(video, first) for first in range(PART, total, PART) if first not in stored]
