"""Small videos in the layout of ILSVRC2015-VID, and the contents of a store that is curated from them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np

from siamfast.data.store import CropStore
from tests.data.test_readers import _object, _xml

GROUP = "VID/train/ILSVRC2015_VID_train_0001"


def make_video(root: Path, name: str, frames: int, *, size: tuple[int, int] = (90, 120), tracks: int = 2) -> None:
    """A video in VID's layout: blurred noise that depends on its name, and boxes that move."""
    data, annotations = root / "Data" / name, root / "Annotations" / name
    data.mkdir(parents=True)
    annotations.mkdir(parents=True)
    rng = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    noise = cv2.GaussianBlur(rng.integers(0, 255, (*size, 3), np.uint8), (0, 0), 3)
    for n in range(frames):
        cv2.imwrite(str(data / f"{n:06d}.JPEG"), np.roll(noise, n, 1), [cv2.IMWRITE_JPEG_QUALITY, 98])
        boxes = [_object(t, (30 + n % 40 + 20 * t, 10 + n % 40 + 20 * t, 40, 15)) for t in range(tracks)]
        (annotations / f"{n:06d}.xml").write_text(_xml(*boxes))


def make_dataset(root: Path) -> Path:
    for name, frames in ((f"{GROUP}/a", 5), (f"{GROUP}/b", 70), ("VID/val/c", 3)):
        make_video(root, name, frames)
    return root


def contents(store: CropStore) -> dict[tuple[str, int, str], bytes]:
    return {
        (track.name, int(frame), kind): store.jpeg(track, n, kind)
        for track in store.tracks
        for n, frame in enumerate(track.frames)
        for kind in "zx"
    }
