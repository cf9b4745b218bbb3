"""The reader of ILSVRC2015-VID: XML annotations of every frame, several targets per video, identified by track."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamfast.data.sequences import Sequence
from siamfast.io.listing import entries, folders, image_files, natural_key


class VidObject(NamedTuple):
    """One target in one frame: box x, y, w, h in 0-based pixels, w = xmax - xmin + 1."""

    track: str
    name: str
    box: tuple[float, float, float, float]
    occluded: bool
    generated: bool  # annotated by interpolation, not by a person


def read_vid_xml(path: Path) -> list[VidObject]:
    """The objects of a frame; none if the annotation is empty.

    defusedxml parses it, because annotations come from the network: entities and external references are errors. Only
    numbers and the class are taken from the file; its name gives the frame.

    Raises:
        ValueError: not an annotation of VID; the message says why. OSError: it cannot be read.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root = fromstring(path.read_bytes())
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise ValueError(f"not XML that is read here ({type(error).__name__}: {error})") from error
    boxes = []
    for number, entry in enumerate(root.iter("object")):
        box = entry.find("bndbox")
        try:
            xmin, ymin, xmax, ymax = (float(box.find(tag).text) for tag in ("xmin", "ymin", "xmax", "ymax"))
            track = entry.findtext("trackid").strip()
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"object {number} has no trackid or no bndbox of four numbers") from None
        if not re.fullmatch(r"\w{1,32}", track):  # it becomes part of a file's name
            raise ValueError(f"object {number}: got trackid {track[:40]!r}, expected letters and digits")
        if not np.isfinite([xmin, ymin, xmax, ymax]).all():
            raise ValueError(f"object {number}: got a bndbox that is not finite")
        flags = (entry.findtext(tag, "0").strip() == "1" for tag in ("occluded", "generated"))
        size = xmax - xmin + 1, ymax - ymin + 1
        boxes.append(VidObject(track, entry.findtext("name", "").strip(), (xmin, ymin, *size), *flags))
    return boxes


def list_vid(root: Path) -> list[Path]:
    """The annotation folder of every video: ROOT/Annotations/VID/{train/ILSVRC2015_VID_train_*,val}/<video>."""
    videos: list[Path] = []
    for split in ("train", "val"):
        top = root / "Annotations" / "VID" / split
        if not top.is_dir():
            continue
        groups = folders(top) if split == "train" else [top]
        for group in groups:
            videos += folders(group)
    return videos


def read_vid(root: Path, video: Path, report: Callable[[Path, str], None]) -> tuple[Sequence, ...]:
    """The sequences of one video, one per track, named <split>/.../<video>.<track>: the existing frames in ROOT/Data,
    with boxes where a frame has an annotation of the track."""
    name = video.relative_to(root / "Annotations")
    data = root / "Data" / name
    frames = image_files(data) if data.is_dir() else []
    if not frames:
        raise ValueError("no frames of this video")
    places = {frame.stem: n for n, frame in enumerate(frames)}
    boxes: dict[str, NDArray[np.float64]] = {}
    visibility: dict[str, NDArray[np.float64]] = {}
    for path in sorted(entries(video, "*.xml"), key=natural_key):
        if path.stem not in places:
            report(path, "its frame is missing")
            continue
        try:
            objects = read_vid_xml(path)
        except (ValueError, OSError) as error:
            report(path, str(error))
            continue
        for item in objects:
            if item.box[2] <= 0 or item.box[3] <= 0:
                report(path, f"track {item.track} has no area")
                continue
            track = boxes.setdefault(item.track, np.full((len(frames), 4), np.nan))
            shares = visibility.setdefault(item.track, np.zeros(len(frames)))
            track[places[path.stem]], shares[places[path.stem]] = item.box, 0.5 if item.occluded else 1.0
    return tuple(
        Sequence(f"{name.relative_to('VID')}.{track}", tuple(frames), boxes[track], visibility[track])
        for track in sorted(boxes, key=lambda track: natural_key(Path(track)))
    )
