"""Speed of loading training pairs, one process: from a curated store and from frames, beside siamfc-pytorch's pipeline.

pytest benchmarks/bench_pairs.py [--quick] [--results FILE]
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.harness import OURS, Case, Made, Run
from benchmarks.peers.siamfc_pairs import load_pair
from siamfast.data.curation import Recipe, curate
from siamfast.data.sequence_pairs import SequencePairs
from siamfast.data.sequences import read_sequence
from siamfast.data.store_pairs import StorePairs
from siamfast.data.synthetic import SyntheticVideo
from siamfast.data.tree import make_writer

FRAMES = 24
SIZES = {"720p": (720, 1280), "1080p": (1080, 1920)}
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []  # kept until the process ends


@functools.cache
def sequence(size: str) -> tuple[Path, Path]:
    """A folder with one synthetic sequence of JPEGs (quality 95), and a store curated from it."""
    _FOLDERS.append(tempfile.TemporaryDirectory())
    root = Path(_FOLDERS[-1].name)
    folder = root / "sequences" / "video"
    (folder / "img").mkdir(parents=True)
    video = SyntheticVideo(11, length=FRAMES, size=SIZES[size])
    rows = []
    for t, (frame, box) in enumerate(video):
        cv2.imwrite(str(folder / "img" / f"{t:06d}.jpg"), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        rows.append(",".join(f"{v:.2f}" for v in box))
    (folder / "groundtruth.txt").write_text("\n".join(rows))
    writer = make_writer("lmdb", root / "store", Recipe("folder"))
    curate(Recipe("folder"), root / "sequences", writer)
    writer.close()
    return root / "sequences", root / "store"


def make(size: str, device: str, compiled: bool) -> Made:
    raw, stored = sequence(size)
    read = read_sequence(raw / "video")
    options = {"instance": 239, "max_shift": 16.0}
    pairs = {
        OURS: StorePairs(stored, 10**6, filter=False, **options),
        f"{OURS} frames": SequencePairs(raw, 10**6, filter=False, **options),
    }
    rng = np.random.default_rng(0)
    counts = dict.fromkeys(pairs, 0)

    def ours(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        counts[name] += 1
        item = pairs[name][counts[name]]
        return item["template"], item["search"]

    def theirs() -> tuple[torch.Tensor, torch.Tensor]:
        first, second = (int(v) for v in rng.integers(FRAMES, size=2))
        return load_pair(read.frames, read.boxes, first, second, rng)

    runs: dict[str, Run] = {name: functools.partial(ours, name) for name in pairs} | {"siamfc-pytorch": theirs}

    def check(name: str) -> None:
        """The target is in the middle of all templates: the mean color there equals that of the peer's templates."""
        templates = torch.stack(
            [torch.as_tensor(runs[name]()[0]).float()[:, 54:73, 54:73].mean((1, 2)) for _ in range(30)]
        )
        truth = torch.stack([theirs()[0][:, 54:73, 54:73].mean((1, 2)) for _ in range(30)])
        if not float((templates.mean(0) - truth.mean(0)).abs().max()) < 12:
            raise AssertionError(f"templates of {name} show something else: {templates.mean(0)}, {truth.mean(0)}")

    return Made(runs, check)


def cases(quick: bool = False) -> Iterator[Case]:
    for size in ("720p",) if quick else SIZES:
        yield Case(
            "pairs",
            f"{size} frames, 1 process",
            "call",
            {"frame": SIZES[size]},
            (OURS, f"{OURS} frames", "siamfc-pytorch"),
            functools.partial(make, size),
            dtype="uint8",
            unit="pairs",
        )


def test_pairs(timed: None) -> None:
    """Timed by the fixture, its values checked first."""
