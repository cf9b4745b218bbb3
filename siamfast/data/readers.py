"""Readers of the data sets for training and evaluation: each video becomes the sequences of its targets.

A layout lists its videos, quickly, and reads one of them, in any process, as a tuple of `Sequence` that share their
frames, so that a frame is decoded once for all its targets. Unreadable files are passed to `report` and left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamfast.data.davis import list_davis, read_davis
from siamfast.data.sequences import Sequence, proper_boxes, read_boxes, read_sequence
from siamfast.data.vid import list_vid, read_vid
from siamfast.data.youtubebb import list_youtubebb, read_youtubebb
from siamfast.io.listing import entries, existing, folders, image_files, natural_key

Report = Callable[[Path, str], None]  # path of an unreadable file, and the reason
Video = tuple[Sequence, ...]

# Sequences of OTB with annotations for some frames only: first and last, counted from 1 (the benchmark's list).
_OTB_PARTS = {
    "BlurCar1": (247, 988), "BlurCar3": (3, 359), "BlurCar4": (18, 397), "David": (300, 770), "Diving": (1, 215),
    "Football1": (1, 74), "Freeman3": (1, 460), "Freeman4": (1, 283),
}  # fmt: skip


def _aligned(frames: list[Path], boxes: NDArray[np.float64], folder: Path) -> tuple[list[Path], NDArray[np.float64]]:
    """Frames and boxes of the same count; a single box belongs to the first frame, as in a test set."""
    if len(boxes) == 1 and len(frames) > 1:
        boxes = np.concatenate([boxes, np.full((len(frames) - 1, 4), np.nan)])
    if not frames or len(frames) != len(boxes):
        raise ValueError(f"{len(frames)} frames, but {len(boxes)} boxes ({folder})")
    return frames, boxes


def _flags(path: Path, count: int) -> NDArray[np.float64] | None:
    """Numbers of a label file, one per frame, in lines or separated by commas; None without such a file."""
    if not path.is_file():
        return None
    words = re.split(r"[,\s]+", path.read_text().strip())
    values = np.array([float(word) for word in words if word], np.float64)
    if len(values) != count:
        raise ValueError(f"{path.name} has {len(values)} labels, but there are {count} frames")
    return values


def list_folder(root: Path) -> list[Path]:
    """The folder itself if it is a sequence, else the sequences in it."""
    if (root / "groundtruth.txt").is_file():
        return [root]
    return [p for p in folders(root) if (p / "groundtruth.txt").is_file()]


def read_folder(root: Path, video: Path, report: Report) -> Video:
    """Folders of frames with a groundtruth.txt: `siamfast.data.sequences.read_sequence`."""
    return (read_sequence(video),)


def list_got10k(root: Path) -> list[Path]:
    """The videos of all existing splits, or of ROOT if it is a split."""
    splits = [p for name in ("train", "val", "test") if (p := root / name).is_dir()] or [root]
    return [p for split in splits for p in folders(split) if (p / "groundtruth.txt").is_file()]


def read_got10k(root: Path, video: Path, report: Report) -> Video:
    """ROOT/{train,val,test}/<name>/ or ROOT/<name>/: frames, groundtruth.txt, absence.label, cover.label (0 to 8)."""
    frames, boxes = _aligned(image_files(video), read_boxes(video / "groundtruth.txt"), video)
    cover, absent = (_flags(video / f"{name}.label", len(frames)) for name in ("cover", "absence"))
    visibility = np.ones(len(frames)) if cover is None else cover / 8
    if absent is not None:
        boxes[absent > 0], visibility[absent > 0] = np.nan, 0
    return (Sequence(video.name, tuple(frames), boxes, visibility),)


def list_otb(root: Path) -> list[Path]:
    """Folders with a folder `img`."""
    return [p for p in folders(root) if (p / "img").is_dir()]


def read_otb(root: Path, video: Path, report: Report) -> Video:
    """ROOT/<name>/img/ and groundtruth_rect.txt, or groundtruth_rect.1.txt and .2.txt for several targets; pixels are
    counted from 1. An empty file is no target (Human4's first); a single target has its video's name."""
    images, sequences = image_files(video / "img"), []
    paths = entries(video, "groundtruth_rect*.txt")
    paths = [path for path in paths if path.read_bytes().strip()] or paths
    for path in paths:
        boxes = read_boxes(path)
        boxes[:, :2] -= 1
        first, last = _OTB_PARTS.get(video.name, (1, len(images)))
        part = images if len(images) == len(boxes) else images[first - 1 : last]
        frames, boxes = _aligned(part, boxes, video)
        target = path.name.removeprefix("groundtruth_rect").removesuffix(".txt") if len(paths) > 1 else ""
        sequences.append(Sequence(video.name + target, tuple(frames), boxes))
    return tuple(sequences)


def list_lasot(root: Path) -> list[Path]:
    """The videos, in folders by class or all in one folder."""
    paths = entries(root, "*/groundtruth.txt") + entries(root, "*/*/groundtruth.txt")
    return sorted((path.parent for path in paths), key=natural_key)


def read_lasot(root: Path, video: Path, report: Report) -> Video:
    """ROOT/<class>/<class>-<number>/ or ROOT/<class>-<number>/: img/, groundtruth.txt, full_occlusion.txt,
    out_of_view.txt."""
    frames, boxes = _aligned(image_files(video / "img"), read_boxes(video / "groundtruth.txt"), video)
    visibility = np.ones(len(frames))
    for name in ("full_occlusion.txt", "out_of_view.txt"):
        flags = _flags(video / name, len(frames))
        if flags is not None:
            visibility[flags > 0] = 0
    return (Sequence(video.name, tuple(frames), boxes, visibility),)


def list_trackingnet(root: Path) -> list[Path]:
    """The annotation file of each video, in all existing parts."""
    splits = [p for p in sorted(folders(root), key=natural_key) if (p / "anno").is_dir()]
    return [path for split in splits or [root] for path in entries(split / "anno", "*.txt")]


def read_trackingnet(root: Path, video: Path, report: Report) -> Video:
    """ROOT/{TRAIN_0 .. TRAIN_11, TEST}/: frames/<name>/0.jpg ... and anno/<name>.txt."""
    folder = video.parent.parent / "frames" / video.stem
    frames, boxes = _aligned(image_files(existing(folder, "frames are")), read_boxes(video), folder)
    return (Sequence(video.stem, tuple(frames), boxes),)


def list_mot(root: Path) -> list[Path]:
    """Folders with a gt/gt.txt."""
    return [p for p in folders(root) if (p / "gt" / "gt.txt").is_file()]


def read_mot(root: Path, video: Path, report: Report) -> Video:
    """ROOT/<name>/img1/ and gt/gt.txt of frame, id, x, y, w, h, counted, class, visibility; pixels and frames from 1.

    Rows with 0 as the seventh number do not count and are left out.
    """
    frames = image_files(existing(video / "img1", "frames are"))
    places = {int(frame.stem): n for n, frame in enumerate(frames) if frame.stem.isdecimal()}
    tracks: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    path = video / "gt" / "gt.txt"
    for line, text in enumerate(path.read_text().splitlines(), start=1):
        words = [word for word in re.split(r"[,\s]+", text.strip()) if word]
        if not words:
            continue
        try:
            values = [float(word) for word in words]
            number, target = int(values[0]), int(values[1])
            box = values[2] - 1, values[3] - 1, values[4], values[5]
        except (ValueError, IndexError, OverflowError):  # of an infinite number
            report(path, f"line {line}: got {text[:80]!r}, expected frame,id,x,y,w,h,...")
            continue
        if (len(values) > 6 and values[6] == 0) or number not in places:
            continue
        if target not in tracks:
            tracks[target] = np.full((len(frames), 4), np.nan), np.zeros(len(frames))
        tracks[target][0][places[number]] = box
        tracks[target][1][places[number]] = values[8] if len(values) > 8 else 1
    return tuple(
        Sequence(f"{video.name}.{t}", tuple(frames), proper_boxes(b), v) for t, (b, v) in sorted(tracks.items())
    )


class Layout(NamedTuple):
    """A data set's layout on disk. videos: root -> one path per video; read: root, such a path, report -> its
    sequences."""

    videos: Callable[[Path], list[Path]]
    read: Callable[[Path, Path, Report], Video]


LAYOUTS = {
    "vid": Layout(list_vid, read_vid),
    "got10k": Layout(list_got10k, read_got10k),
    "otb": Layout(list_otb, read_otb),
    "lasot": Layout(list_lasot, read_lasot),
    "trackingnet": Layout(list_trackingnet, read_trackingnet),
    "youtubebb": Layout(list_youtubebb, read_youtubebb),
    "davis": Layout(list_davis, read_davis),
    "mot": Layout(list_mot, read_mot),
    "folder": Layout(list_folder, read_folder),
}


def list_videos(kind: str, root: str | Path) -> list[Path]:
    """One path per video of a data set, in order; no video is read yet.

    Args:
        kind: one of LAYOUTS.
        root: its folder.

    Raises:
        ValueError: an unknown kind; a missing folder, or one without such a data set.
    """
    if kind not in LAYOUTS:
        raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(LAYOUTS)}")
    paths = LAYOUTS[kind].videos(existing(Path(root), f"the {kind} data set is expected"))
    if not paths:
        raise ValueError(f"root: no videos of the layout {kind!r} in {root}")
    return paths


def read_video(kind: str, root: str | Path, video: Path, report: Report) -> Video:
    """The sequences of one of `list_videos`, one per target; none, and a report, if they cannot be read.

    Boxes are in 0-based pixels, nan where the target is absent.
    """
    try:
        return LAYOUTS[kind].read(Path(root), video, report)
    except (ValueError, OSError) as error:
        report(video, str(error))
        return ()


def read_videos(kind: str, root: str | Path, report: Report | None = None) -> Iterator[Video]:
    """Iterate over the videos of a data set; each is read when needed.

    Args:
        kind, root: as for `list_videos`.
        report: called with the path of an unreadable file and the reason; None: such a file is an error.

    Raises:
        ValueError: as `list_videos`.

    >>> read_videos("vid", "ILSVRC2015")  # doctest: +SKIP
    """

    def strict(path: Path, reason: str) -> None:
        raise ValueError(f"{path}: {reason}")

    videos = list_videos(kind, root)

    def generate() -> Iterator[Video]:
        for video in videos:
            if report is None:
                yield LAYOUTS[kind].read(Path(root), video, strict)
            elif sequences := read_video(kind, root, video, report):
                yield sequences

    return generate()
