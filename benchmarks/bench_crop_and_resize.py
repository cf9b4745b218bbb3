"""Speed of crop_and_resize on the CPU beside OpenCV's mean, border and resize, and the seed's own way.

pytest benchmarks/bench_crop_and_resize.py                # pytest-benchmark's tables, one group a case
python -m benchmarks.bench_crop_and_resize [--rounds N]  # peers in turn (A B C A B C), one JSON line a case
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import siamfast

Crop = Callable[[NDArray[np.uint8], list[tuple[float, float]], list[float], int], NDArray[np.uint8]]
THREADS = 2


class Case(NamedTuple):
    name: str
    frames: list[NDArray[np.uint8]]  # in turn, together more than the last-level cache holds
    centers: list[tuple[float, float]]
    sizes: list[float]
    out: int


def ours(frame: NDArray[np.uint8], centers: Any, sizes: Any, out: int) -> NDArray[np.uint8]:
    return siamfast.crop_and_resize(frame, centers, sizes, out, rounding="siamfc")


def _place(center: tuple[float, float], size: float) -> tuple[int, int, int]:
    """Rounded corner x, y and side."""
    side = round(size)
    return round(center[0] - (side - 1) / 2), round(center[1] - (side - 1) / 2), side


def opencv(frame: NDArray[np.uint8], centers: Any, sizes: Any, out: int) -> NDArray[np.uint8]:
    """The best a user writes with OpenCV: the mean once a frame, a border around the window only, one resize a box."""
    height, width = frame.shape[:2]
    mean = tuple(int(v) for v in cv2.mean(frame)[:3])
    crops = []
    for center, size in zip(centers, sizes, strict=True):
        x, y, side = _place(center, size)
        part = frame[max(y, 0) : y + side, max(x, 0) : x + side]
        over = [max(0, v) for v in (-y, y + side - height, -x, x + side - width)]
        if any(over):
            part = cv2.copyMakeBorder(part, *over, cv2.BORDER_CONSTANT, value=mean)
        crops.append(cv2.resize(part, (out, out), interpolation=cv2.INTER_LINEAR))
    return np.stack(crops)


def seed(frame: NDArray[np.uint8], centers: Any, sizes: Any, out: int) -> NDArray[np.uint8]:
    """The seed in our words: the mean for every box, and the whole frame padded where a window leaves it.

    The mean is taken a channel at a time: `mean((0, 1))` takes nine times as long, which would flatter us.
    """
    crops = []
    for center, size in zip(centers, sizes, strict=True):
        mean = np.array([frame[..., c].mean() for c in range(3)]).astype(np.uint8)
        x, y, side = _place(center, size)
        reach = max(0, -x, -y, x + side - frame.shape[1], y + side - frame.shape[0])
        padded = frame
        if reach:
            padded = np.empty((frame.shape[0] + 2 * reach, frame.shape[1] + 2 * reach, 3), np.uint8)
            padded[:] = mean
            padded[reach : reach + frame.shape[0], reach : reach + frame.shape[1]] = frame
        cut = padded[y + reach : y + reach + side, x + reach : x + reach + side]
        crops.append(cv2.resize(cut, (out, out), interpolation=cv2.INTER_LINEAR))
    return np.stack(crops)


PEERS: dict[str, Crop] = {"siamfast": ours, "opencv": opencv, "seed": seed}


def cases() -> Iterator[Case]:
    """720p and 1080p, template and search, one box and the tracker's three scales, inside and over the corner."""
    rng = np.random.default_rng(0)
    context = 220.0
    for height, width in ((720, 1280), (1080, 1920)):
        count = 64_000_000 // (height * width * 3) + 1
        frames = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]
        for out, scales, inside in itertools.product((127, 255), ((1.0,), (1 / 1.0375, 1.0, 1.0375)), (True, False)):
            center = (width / 2, height / 2) if inside else (40.0, 30.0)
            sizes = [context * out / 127 * scale for scale in scales]
            name = f"{height}p-{out}px-{len(scales)}box-{'inside' if inside else 'border'}"
            yield Case(name, frames, [center] * len(scales), sizes, out)


CASES = list(cases())


def check(case: Case, crop: Crop) -> None:
    """Within one grey level of the seed's, or no time is taken."""
    found, expected = (run(case.frames[0], *case[2:]).astype(int) for run in (crop, seed))
    difference = np.abs(found - expected).max()
    if difference > 1:
        raise AssertionError(f"{case.name}: {crop.__name__} is {difference} grey levels from the seed's crop")


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_crop(benchmark: Any, case: Case, peer: str) -> None:
    torch.set_num_threads(THREADS)
    cv2.setNumThreads(THREADS)
    check(case, PEERS[peer])
    frames = itertools.cycle(case.frames)
    benchmark.group = case.name
    benchmark(lambda: PEERS[peer](next(frames), *case[2:]))


def _microseconds(crop: Crop, case: Case, frame: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    crop(frame, *case[2:])
    return (time.perf_counter() - start) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="times that every peer is run, in turn")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(THREADS)
    cv2.setNumThreads(THREADS)
    for case in CASES:
        for crop in PEERS.values():
            check(case, crop)
        times: dict[str, list[float]] = {name: [] for name in PEERS}
        for turn in range(rounds):
            for k, (name, crop) in enumerate(PEERS.items()):
                # Each peer its own frame, so that none finds what another left in the cache.
                frame = case.frames[(turn * len(PEERS) + k) % len(case.frames)]
                times[name].append(_microseconds(crop, case, frame))
        row: dict[str, Any] = {"op": "crop_and_resize", "case": case.name, "dtype": "uint8", "threads": THREADS}
        for name, taken in times.items():
            row[name] = {f"p{q}": round(float(np.percentile(taken, q)), 1) for q in (20, 50, 80)}
        for name in ("opencv", "seed"):
            row[f"times_{name}"] = round(row[name]["p50"] / row["siamfast"]["p50"], 2)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
