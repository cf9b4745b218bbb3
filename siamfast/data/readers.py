"""Readers of the data sets that trackers train and are measured on: each video as the sequences of its targets.

A reader yields one tuple of `Sequence` a video, whose sequences share their frames, so that a frame is decoded once for
all its targets. Videos are found as they are asked for. What cannot be read is told to `report` and left out.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamfast.data.sequences import Sequence, image_files, natural_key, read_boxes, read_sequences
from siamfast.data.vid import read_vid

Report = Callable[[Path, str], None]  # what could not be read, and why
Videos = Iterator[tuple[Sequence, ...]]

# Sequences of OTB whose annotation covers a part of the frames: first and last, counted from 1 (the benchmark's list).
_OTB_PARTS = {
    "BlurCar1": (247, 988), "BlurCar3": (3, 359), "BlurCar4": (18, 397), "David": (300, 770), "Diving": (1, 215),
    "Football1": (1, 74), "Freeman3": (1, 460), "Freeman4": (1, 283),
}  # fmt: skip


def _given(found: Path, what: str) -> Path:
    if not found.is_dir():
        raise ValueError(f"root: {found} is not a folder, where {what}")
    return found


def _aligned(frames: list[Path], boxes: NDArray[np.float64], folder: Path) -> tuple[list[Path], NDArray[np.float64]]:
    """Frames and boxes of the same count; one box alone is the first frame's, of a test set."""
    if len(boxes) == 1 and len(frames) > 1:
        boxes = np.concatenate([boxes, np.full((len(frames) - 1, 4), np.nan)])
    if not frames or len(frames) != len(boxes):
        raise ValueError(f"{len(frames)} frames, but {len(boxes)} boxes ({folder})")
    return frames, boxes


def _flags(path: Path, count: int) -> NDArray[np.float64] | None:
    """Numbers of a label file, one a frame, in lines or separated by commas; None where there is no such file."""
    if not path.is_file():
        return None
    words = re.split(r"[,\s]+", path.read_text().strip())
    values = np.array([float(word) for word in words if word], np.float64)
    if len(values) != count:
        raise ValueError(f"{path.name} has {len(values)} labels, but there are {count} frames")
    return values


def _each(folders: list[Path], read: Callable[[Path], tuple[Sequence, ...]], report: Report) -> Videos:
    for folder in folders:
        try:
            found = read(folder)
        except (ValueError, OSError) as error:
            report(folder, str(error))
            continue
        if found:
            yield found


def read_folder(root: Path, report: Report) -> Videos:
    """Folders of frames with a groundtruth.txt: `siamfast.data.sequences.read_sequence`."""
    if (root / "groundtruth.txt").is_file():
        yield (read_sequences(root)[0],)
        return
    folders = [p for p in sorted(_given(root, "sequences are").iterdir()) if (p / "groundtruth.txt").is_file()]
    if not folders:
        raise ValueError(f"root: no folder with a groundtruth.txt in {root}")
    yield from _each(folders, lambda folder: tuple(read_sequences(folder)), report)


def read_got10k(root: Path, report: Report) -> Videos:
    """ROOT/{train,val,test}/<name>/ or ROOT/<name>/: frames, groundtruth.txt, absence.label, cover.label (0 to 8)."""

    def read(folder: Path) -> tuple[Sequence, ...]:
        frames, boxes = _aligned(image_files(folder), read_boxes(folder / "groundtruth.txt"), folder)
        cover, absent = (_flags(folder / f"{name}.label", len(frames)) for name in ("cover", "absence"))
        visibility = np.ones(len(frames)) if cover is None else cover / 8
        if absent is not None:
            boxes[absent > 0], visibility[absent > 0] = np.nan, 0
        return (Sequence(folder.name, tuple(frames), boxes, visibility),)

    splits = [p for name in ("train", "val", "test") if (p := root / name).is_dir()] or [_given(root, "GOT-10k is")]
    folders = [p for split in splits for p in sorted(split.iterdir()) if (p / "groundtruth.txt").is_file()]
    yield from _each(folders, read, report)


def read_otb(root: Path, report: Report) -> Videos:
    """ROOT/<name>/img/ and groundtruth_rect.txt, or groundtruth_rect.1.txt and .2.txt of several targets; places are
    counted from 1."""

    def read(folder: Path) -> tuple[Sequence, ...]:
        every, sequences = image_files(folder / "img"), []
        for path in sorted(folder.glob("groundtruth_rect*.txt")):
            boxes = read_boxes(path)
            boxes[:, :2] -= 1
            first, last = _OTB_PARTS.get(folder.name, (1, len(every)))
            part = every if len(every) == len(boxes) else every[first - 1 : last]
            frames, boxes = _aligned(part, boxes, folder)
            target = path.name.removeprefix("groundtruth_rect").removesuffix(".txt")
            sequences.append(Sequence(folder.name + target, tuple(frames), boxes))
        return tuple(sequences)

    folders = [p for p in sorted(_given(root, "OTB is").iterdir()) if (p / "img").is_dir()]
    yield from _each(folders, read, report)


def read_lasot(root: Path, report: Report) -> Videos:
    """ROOT/<class>/<class>-<number>/ or ROOT/<class>-<number>/: img/, groundtruth.txt, full_occlusion.txt,
    out_of_view.txt."""

    def read(folder: Path) -> tuple[Sequence, ...]:
        frames, boxes = _aligned(image_files(folder / "img"), read_boxes(folder / "groundtruth.txt"), folder)
        visibility = np.ones(len(frames))
        for name in ("full_occlusion.txt", "out_of_view.txt"):
            flags = _flags(folder / name, len(frames))
            if flags is not None:
                visibility[flags > 0] = 0
        return (Sequence(folder.name, tuple(frames), boxes, visibility),)

    found = sorted(_given(root, "LaSOT is").glob("*/groundtruth.txt")) + sorted(root.glob("*/*/groundtruth.txt"))
    yield from _each(sorted((path.parent for path in found), key=natural_key), read, report)


def read_trackingnet(root: Path, report: Report) -> Videos:
    """ROOT/{TRAIN_0 .. TRAIN_11, TEST}/: frames/<name>/0.jpg ... and anno/<name>.txt."""

    def read(path: Path) -> tuple[Sequence, ...]:
        folder = path.parent.parent / "frames" / path.stem
        frames, boxes = _aligned(image_files(_given(folder, "frames are")), read_boxes(path), folder)
        return (Sequence(path.stem, tuple(frames), boxes),)

    splits = [p for p in sorted(_given(root, "TrackingNet is").iterdir(), key=natural_key) if (p / "anno").is_dir()]
    files = [path for split in splits or [root] for path in sorted((split / "anno").glob("*.txt"))]
    yield from _each(files, read, report)


def read_youtubebb(root: Path, report: Report) -> Videos:
    """ROOT/*.csv with rows of video, time in ms, class, class name, object, present or absent, xmin, xmax, ymin, ymax
    as shares of the frame; frames in ROOT/frames/<video>/<time>.jpg (or ROOT/<video>/<time>.jpg)."""
    from PIL import Image

    def tracks(path: Path) -> dict[str, dict[str, dict[int, list[float]]]]:
        """video -> object of a class -> time -> box in shares; an absent one is nan."""
        found: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(dict))
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                try:
                    video, time, kind, _, target, presence = (word.strip() for word in row[:6])
                    box = [np.nan] * 4 if presence == "absent" else [float(word) for word in row[6:10]]
                    if len(box) != 4 or not re.fullmatch(r"[\w-]+", video):
                        raise ValueError
                    found[video][f"{kind}-{target}"][int(time)] = box
                except ValueError:
                    if number > 1:  # the first may be a head
                        report(path, f"line {number}: got {','.join(row)[:80]!r}, expected ten columns")
        return found

    for path in sorted(_given(root, "the CSV is").glob("*.csv")):
        for video, targets in tracks(path).items():
            folder = root / "frames" / video if (root / "frames" / video).is_dir() else root / video
            frames = image_files(folder) if folder.is_dir() else []
            if not frames:
                report(folder, "no frames of this video")
                continue
            with Image.open(frames[0]) as image:
                width, height = image.size
            sequences = []
            for target, rows in targets.items():
                boxes = np.full((len(frames), 4), np.nan)
                for number, frame in enumerate(frames):
                    xmin, xmax, ymin, ymax = rows.get(int(frame.stem) if frame.stem.isdecimal() else -1, [np.nan] * 4)
                    boxes[number] = xmin * width, ymin * height, (xmax - xmin) * width, (ymax - ymin) * height
                sequences.append(Sequence(f"{video}.{target}", tuple(frames), _proper(boxes)))
            yield tuple(sequences)


def read_davis(root: Path, report: Report) -> Videos:
    """ROOT/JPEGImages/480p/<name>/ and ROOT/Annotations/480p/<name>/: the tight box of every object of the masks."""
    from siamfast.data.masks import read_mask

    def read(folder: Path) -> tuple[Sequence, ...]:
        masks = {path.stem: path for path in image_files(Path(str(folder).replace("JPEGImages", "Annotations")))}
        frames = image_files(folder)
        boxes: dict[int, NDArray[np.float64]] = {}
        for number, frame in enumerate(frames):
            if frame.stem not in masks:
                continue
            numbers = read_mask(masks[frame.stem]).numbers
            for v in (int(v) for v in np.unique(numbers) if v):
                y, x = np.nonzero(numbers == v)
                track = boxes.setdefault(v, np.full((len(frames), 4), np.nan))
                track[number] = x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1
        if not boxes:
            raise ValueError("no masks with an object")
        return tuple(Sequence(f"{folder.name}.{v}", tuple(frames), boxes[v]) for v in sorted(boxes))

    sizes = sorted(_given(root / "JPEGImages", "DAVIS has its frames").iterdir())
    folders = [p for p in sorted((sizes[0] if sizes else root).iterdir()) if p.is_dir()]
    yield from _each(folders, read, report)


def read_mot(root: Path, report: Report) -> Videos:
    """ROOT/<name>/img1/ and gt/gt.txt of frame, id, x, y, w, h, counted, class, visibility; places and frames from 1.

    Rows whose seventh number is 0 are not to be counted and left out.
    """

    def read(folder: Path) -> tuple[Sequence, ...]:
        frames = image_files(folder / "img1")
        places = {int(frame.stem): n for n, frame in enumerate(frames) if frame.stem.isdecimal()}
        tracks: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        for line, text in enumerate((folder / "gt" / "gt.txt").read_text().splitlines(), start=1):
            words = [word for word in re.split(r"[,\s]+", text.strip()) if word]
            if not words:
                continue
            try:
                values = [float(word) for word in words]
                number, target = int(values[0]), int(values[1])
                box = values[2] - 1, values[3] - 1, values[4], values[5]
            except (ValueError, IndexError):
                report(folder / "gt" / "gt.txt", f"line {line}: got {text[:80]!r}, expected frame,id,x,y,w,h,...")
                continue
            if (len(values) > 6 and values[6] == 0) or number not in places:
                continue
            if target not in tracks:
                tracks[target] = np.full((len(frames), 4), np.nan), np.zeros(len(frames))
            tracks[target][0][places[number]] = box
            tracks[target][1][places[number]] = values[8] if len(values) > 8 else 1
        names = f"{folder.name}."
        return tuple(Sequence(f"{names}{t}", tuple(frames), _proper(b), v) for t, (b, v) in sorted(tracks.items()))

    folders = [p for p in sorted(_given(root, "sequences are").iterdir()) if (p / "gt" / "gt.txt").is_file()]
    yield from _each(folders, read, report)


def _proper(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows that are not finite or have no area become nan throughout."""
    good = np.isfinite(boxes).all(1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    return np.where(good[:, None], boxes, np.nan)


READERS: dict[str, Callable[[Path, Report], Videos]] = {
    "vid": read_vid,
    "got10k": read_got10k,
    "otb": read_otb,
    "lasot": read_lasot,
    "trackingnet": read_trackingnet,
    "youtubebb": read_youtubebb,
    "davis": read_davis,
    "mot": read_mot,
    "folder": read_folder,
}


def read_videos(kind: str, root: str | Path, report: Report | None = None) -> Videos:
    """The videos of a data set.

    Args:
        kind: one of READERS: vid, got10k, otb, lasot, trackingnet, youtubebb, davis, mot, folder.
        root: where it lies.
        report: told what could not be read, and why; None: that is an error.

    Yields:
        one tuple of `Sequence` a video, a sequence a target; boxes in 0-based pixels, nan where there is none.

    Raises:
        ValueError: another kind; a folder that is not there or holds no such data set.

    >>> read_videos("vid", "ILSVRC2015")  # doctest: +SKIP
    """
    if kind not in READERS:
        raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(READERS)}")
    root = Path(root)
    _given(root, f"the {kind} data set is expected")

    def strict(path: Path, reason: str) -> None:
        raise ValueError(f"{path}: {reason}")

    found = READERS[kind](root, report or strict)
    first = next(found, None)
    if first is None and report is None:
        raise ValueError(f"root: no videos of the layout {kind!r} in {root}")

    def every() -> Videos:
        if first is not None:
            yield first
            yield from found

    return every()
