"""Speed of curating ILSVRC2015-VID, one process, beside the loop that ours replaced, and the time of its stages.

pytest benchmarks/bench_curation.py [--quick] [--results FILE]
"""

from __future__ import annotations

import functools
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

from benchmarks.harness import FIRST, OURS, Case, Made, Row
from benchmarks.peers.first_curation import curate_video
from siamfast.data import curation
from siamfast.data.curation import Recipe, curate
from siamfast.data.store import CropStore
from siamfast.data.store_writer import StoreWriter
from siamfast.data.synthetic import SyntheticVideo
from siamfast.data.tree import make_writer

FRAMES = 48
SIZES = {"720p": (720, 1280), "1080p": (1080, 1920)}
VIDEO = "train/ILSVRC2015_VID_train_0000/video"
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []  # kept until the process ends
_OBJECT = (
    "<object><trackid>{}</trackid><name>n02084071</name><bndbox><xmax>{}</xmax><xmin>{}</xmin><ymax>{}</ymax>"
    "<ymin>{}</ymin></bndbox><occluded>0</occluded><generated>0</generated></object>"
)


@functools.cache
def dataset(size: str, targets: int) -> Path:
    """A video in VID's layout: synthetic frames (JPEG, quality 90), the target's box and others around it, so that some
    windows leave the frame, as in VID."""
    _FOLDERS.append(tempfile.TemporaryDirectory())
    root = Path(_FOLDERS[-1].name)
    data, annotations = root / "Data" / "VID" / VIDEO, root / "Annotations" / "VID" / VIDEO
    data.mkdir(parents=True)
    annotations.mkdir(parents=True)
    height, width = SIZES[size]
    for t, (frame, box) in enumerate(SyntheticVideo(11, length=FRAMES, size=SIZES[size])):
        cv2.imwrite(str(data / f"{t:06d}.JPEG"), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        objects = []
        for n in range(targets):
            x, y, w, h = box + np.array([n * width / 4, n * height / 5, 0, 0])
            x, y = x % (width - w), y % (height - h)
            objects.append(_OBJECT.format(n, round(x + w - 1), round(x), round(y + h - 1), round(y)))
        (annotations / f"{t:06d}.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    return root


def make(size: str, targets: int, device: str, compiled: bool) -> Made:
    root, numbers = dataset(size, targets), itertools.count()
    folder = Path(tempfile.mkdtemp(dir=root))

    def ours() -> Path:
        out = folder / f"ours-{next(numbers)}"
        writer = make_writer("lmdb", out, Recipe("vid"))
        curate(Recipe("vid"), root, writer)
        writer.close()
        return out

    def theirs() -> Path:
        out = folder / f"theirs-{next(numbers)}"
        curate_video(root, VIDEO, out)
        return out

    def curate_anew(name: str) -> Path:
        """Curate into a new folder; the next call removes it, so that disk space does not grow."""
        for old in folder.iterdir():
            shutil.rmtree(old)
        return {OURS: ours, FIRST: theirs}[name]()

    def check(name: str) -> None:
        """The crops equal the first version's within the error of JPEG at quality 90."""
        store, tree = CropStore(ours()), theirs()
        if len(store.tracks) != targets or len(store) != targets * FRAMES:
            raise AssertionError(f"{len(store.tracks)} tracks of {len(store)} crops")
        for number, track in enumerate(store.tracks):
            for kind in ("z", "x"):
                peer = cv2.imread(str(tree / f"{7:06d}.{number:02d}.crop.{kind}.jpg"))[..., ::-1]
                off = np.abs(store.crop(track, 7, kind).astype(float) - peer).mean()
                if off > 3:
                    raise AssertionError(f"{kind} of track {number} is off by {off} levels")

    return Made({name: functools.partial(curate_anew, name) for name in (OURS, FIRST)}, check)


def stages(size: str, targets: int, device: str) -> Row:
    """Milliseconds per frame of each stage, and their share of the whole."""
    root = dataset(size, targets)
    spent: dict[str, float] = {}

    def timed(name: str, call: object) -> object:
        def run(*arguments: object, **options: object) -> object:
            began = time.perf_counter()
            try:
                return call(*arguments, **options)  # type: ignore[operator]
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - began

        return run

    watched = (
        ("annotations", curation, "read_video"),
        ("decode", curation, "decode_frame"),
        ("crop", curation, "crop_and_resize"),
        ("mean", curation, "mean_color"),
        ("encode", curation.cv2, "imencode"),
        ("write", StoreWriter, "add"),
    )
    with tempfile.TemporaryDirectory() as folder:
        writer = make_writer("lmdb", Path(folder), Recipe("vid"))
        patches = [
            mock.patch.object(owner, attribute, timed(name, getattr(owner, attribute)))
            for name, owner, attribute in watched
        ]
        for patch in patches:
            patch.start()
        began = time.perf_counter()
        curate(Recipe("vid"), root, writer)
        whole = time.perf_counter() - began
        for patch in patches:
            patch.stop()
        writer.close()
    return {f"{name}_ms": round(1e3 * spent[name] / FRAMES, 3) for name, *_ in watched} | {
        "frame_ms": round(1e3 * whole / FRAMES, 3)
    }


def cases(quick: bool = False) -> Iterator[Case]:
    for size, targets in (("720p", 1),) if quick else (("720p", 1), ("720p", 3), ("1080p", 1)):
        yield Case(
            "curation",
            f"VID, {size}, {targets} targets, 1 process",
            "call",
            {"frame": SIZES[size]},
            (OURS, FIRST),
            functools.partial(make, size, targets),
            dtype="uint8",
            unit="frames",
            per=FRAMES,
            extra=functools.partial(stages, size, targets),
        )


def test_curation(timed: None) -> None:
    """Timed by the fixture, its values checked first."""
