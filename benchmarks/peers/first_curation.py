"""The first version's curation of ILSVRC2015-VID, rewritten: per target a padded frame, two JPEGs."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_crop_and_resize import first_version

Image = NDArray[np.uint8]


def curate_video(root: Path, video: str, out: Path) -> int:
    """ROOT/Annotations/VID/<video>/*.xml -> OUT/<frame>.<track>.crop.{z,x}.jpg; the number of frames."""
    out.mkdir(parents=True, exist_ok=True)
    annotations = sorted((root / "Annotations" / "VID" / video).glob("*.xml"))
    for path in annotations:
        tree = ElementTree.parse(path).getroot()
        frame: Image | None = None
        for target in tree.findall("object"):
            if frame is None:
                frame = np.asarray(cv2.imread(str(root / "Data" / "VID" / video / f"{path.stem}.JPEG")), np.uint8)
            left, top, right, bottom = (
                int(target.findtext(f"bndbox/{n}") or 0) for n in ("xmin", "ymin", "xmax", "ymax")
            )
            width, height = right - left + 1, bottom - top + 1
            center = left + (width - 1) / 2, top + (height - 1) / 2
            context = 0.5 * (width + height)
            size = float(np.sqrt((width + context) * (height + context)))
            name = f"{path.stem}.{int(target.findtext('trackid') or 0):02d}.crop"
            for kind, side in (("z", 127), ("x", 255)):
                (crop,) = first_version(frame, [center], [size * side / 127], side)
                cv2.imwrite(str(out / f"{name}.{kind}.jpg"), crop, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return len(annotations)
