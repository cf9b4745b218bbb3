"""The two formats of one structured document: COCO's JSON with videos, and CVAT's XML for video."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from siamfast.annotation.boxes import Box, Clip, by_target, checked_box


def read_coco(path: Path) -> list[Box]:
    """One video's `images` with `frame_id`, and `annotations` with `instance_id` or `track_id`; bbox in 0-based pixels.

    Without frame_id, frames are counted in the order of `images`; without a target's number, all are target 1.
    """
    document = json.loads(path.read_text(encoding="utf-8-sig"))
    try:
        images, annotations = document["images"], document["annotations"]
        if len({image.get("video_id") for image in images}) > 1:
            raise ValueError("it has several videos, expected one")
        places = {image["id"]: image.get("frame_id", number) for number, image in enumerate(images)}
        labels = {category["id"]: str(category["name"]) for category in document.get("categories", [])}
        return [
            checked_box(
                places[entry["image_id"]],
                entry.get("instance_id", entry.get("track_id", 1)),
                entry["bbox"],
                labels.get(entry.get("category_id")),
                entry.get("score"),
            )
            for entry in annotations
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"not COCO with images and annotations of image_id and bbox ({type(error).__name__}: {error})"
        ) from None


def write_coco(path: Path, boxes: list[Box], clip: Clip) -> None:
    """{videos, images, annotations, categories}, numbered from 1; no annotation where a target is absent."""
    names = clip.files or [f"{frame:06d}.jpg" for frame in range(clip.length)]
    labels = sorted({box.label for box in boxes if not box.absent})
    size = {"width": clip.width, "height": clip.height}
    document: dict[str, Any] = {
        "videos": [{"id": 1, "name": clip.name, **size}],
        "categories": [{"id": number, "name": label} for number, label in enumerate(labels, start=1)],
        "images": [
            {"id": frame + 1, "video_id": 1, "frame_id": frame, "file_name": name, **size}
            for frame, name in enumerate(names)
        ],
        "annotations": [
            {
                "id": number,
                "video_id": 1,
                "image_id": box.frame + 1,
                "category_id": labels.index(box.label) + 1,
                "instance_id": box.target,
                "bbox": [round(side, 2) for side in box.sides],
                "area": round(round(box.w, 2) * round(box.h, 2), 2),
                "iscrowd": 0,
                "score": round(box.confidence, 4),
            }
            for number, box in enumerate((box for box in boxes if not box.absent), start=1)
        ],
    }
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def read_cvat(path: Path) -> list[Box]:
    """CVAT for video 1.1: the boxes of its tracks that a person drew (keyframe="1"); outside="1" is absence.

    defusedxml parses it, as annotations come from the network.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root = fromstring(path.read_bytes())
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise ValueError(f"not XML that is read here ({type(error).__name__}: {error})") from None
    boxes = []
    tracks = list(root.iter("track"))
    numbers = [track.get("id") for track in tracks]
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise ValueError(f"two tracks have the id {twice}, expected one")
    for track in tracks:
        for entry in track.iter("box"):
            if entry.get("keyframe", "1") != "1":
                continue
            if entry.get("rotation", "0").strip("0.") and entry.get("outside", "0") != "1":
                place = f"track {track.get('id')}, frame {entry.get('frame')}"
                raise ValueError(f"{place}: got a rotation of {entry.get('rotation')}, expected upright boxes")
            try:
                left, top, right, bottom = (float(entry.get(name)) for name in ("xtl", "ytl", "xbr", "ybr"))
            except (TypeError, ValueError):
                raise ValueError(
                    f"track {track.get('id')}, frame {entry.get('frame')}: expected numbers xtl, ytl, xbr, ybr"
                ) from None
            sides = [left, top, right - left, bottom - top] if entry.get("outside", "0") != "1" else [0, 0, 0, 0]
            boxes.append(checked_box(entry.get("frame"), track.get("id"), sides, track.get("label")))
    return boxes


def write_cvat(path: Path, boxes: list[Box], clip: Clip) -> None:
    """CVAT for video 1.1. All boxes are key frames, because CVAT would draw others anew, by interpolation.

    A target with boxes in neighbouring frames is absent in a gap: a box outside="1" follows the last one before it. One
    without is of a person's key frames, and CVAT's interpolation may fill its gaps.
    """
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "  <version>1.1</version>",
        f"  <meta><task><name>{quoteattr(clip.name)[1:-1]}</name><size>{clip.length}</size><mode>interpolation</mode>"
        f"<original_size><width>{clip.width}</width><height>{clip.height}</height></original_size></task></meta>",
    ]
    for target, own in by_target(boxes).items():
        every_frame = any(after.frame == box.frame + 1 for box, after in pairwise(own) if not box.absent)
        label = next((box.label for box in own if not box.absent), own[0].label)
        lines.append(f'  <track id="{target}" label={quoteattr(label)} source="semi-auto">')
        place = next((box for box in own if not box.absent), own[0])  # where an absent target was last
        was_absent = False
        for box, after in pairwise([*own, None]):
            assert box is not None
            place = place if box.absent else box
            if not (box.absent and was_absent):
                lines.append(_cvat_box(box, box.frame, place))
            was_absent = box.absent
            following = box.frame + 1
            gap = following < clip.length and (after is None or after.frame > following)
            if every_frame and gap and not box.absent:
                lines.append(_cvat_box(box._replace(w=0.0), following, place))
        lines.append("  </track>")
    path.write_text("\n".join([*lines, "</annotations>", ""]), encoding="utf-8")


def _cvat_box(box: Box, frame: int, place: Box) -> str:
    """place: the box, or where an absent target was last."""
    x, y, w, h = place.sides
    corners = f'xtl="{x:.2f}" ytl="{y:.2f}" xbr="{x + w:.2f}" ybr="{y + h:.2f}"'
    return f'    <box frame="{frame}" outside="{int(box.absent)}" occluded="0" keyframe="1" {corners} z_order="0"/>'
