"""Whether a file of boxes is as `write_boxes` writes it: nothing is in it that this format of ours does not have."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from siamfast.annotation.boxes import Clip
from siamfast.annotation.formats import FORMATS, format_of, read_boxes


def is_own_boxes(path: Path, name: str | None = None) -> bool:
    """Whether the boxes read from this file and written again give the same bytes: no more than boxes is in it.

    Args:
        path: a file. name: one of FORMATS; None: by the file's ending.
    """
    kind = format_of(path, name)
    try:
        boxes, clip = read_boxes(path, name), Clip("", 0, 0, 0)
        if kind is FORMATS["coco"]:
            clip = _coco_clip(path)
        elif kind is FORMATS["cvat"]:
            clip = _cvat_clip(path)
        with tempfile.TemporaryDirectory() as folder:
            again = Path(folder) / "again"
            kind.write(again, sorted(boxes, key=lambda box: (box.frame, box.target)), clip)
            return again.read_bytes() == path.read_bytes()
    except (ValueError, LookupError, TypeError, AttributeError):  # not boxes, or not as we write them
        return False


def _coco_clip(path: Path) -> Clip:
    document = json.loads(path.read_text(encoding="utf-8"))
    (video,), images = document["videos"], document["images"]
    return Clip(video["name"], video["width"], video["height"], len(images), [image["file_name"] for image in images])


def _cvat_clip(path: Path) -> Clip:
    from defusedxml.ElementTree import fromstring

    task = fromstring(path.read_bytes()).find("meta/task")
    width, height, length = (int(task.findtext(at)) for at in ("original_size/width", "original_size/height", "size"))
    return Clip(task.findtext("name") or "", width, height, length)
