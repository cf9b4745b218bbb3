"""Speed of tracking, end to end: frames per second with 1, 8 and 64 targets on one video, and the time of its parts.

pytest benchmarks/bench_tracking.py [--quick] [--results FILE]
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import OURS, Case, Made, Row, Run
from benchmarks.peers.siamfc_tracker import CommunityTracker
from siamfast.data.synthetic import SyntheticVideo
from siamfast.evaluation.metrics import overlap
from siamfast.models.siamfc import SiamFC
from siamfast.models.siamfc_weights import load_model
from siamfast.ops.xcorr import xcorr
from siamfast.tracking.siamfc import SiamFCTracker

SIZE, LENGTH, SEED = (480, 640), 16, 5


@functools.cache
def video() -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
    clip = SyntheticVideo(SEED, length=LENGTH, size=SIZE)
    frames, boxes = zip(*clip, strict=True)
    return list(frames), np.stack(boxes)


def boxes_of(targets: int) -> NDArray[np.float64]:
    """The clip's target, and boxes of its size on a grid, whose content does not change the time."""
    x, y, w, h = video()[1][0]
    side = int(np.ceil(np.sqrt(targets)))
    centers = itertools.product(np.linspace(0.1, 0.9, side), repeat=2)
    others = [(u * SIZE[1] - w / 2, v * SIZE[0] - h / 2, w, h) for u, v in centers]
    return np.array([(x, y, w, h), *others[: targets - 1]])


@functools.cache
def model() -> tuple[SiamFC, bool]:
    """The packaged weights and True; without safetensors, random ones of the same speed and False."""
    if importlib.util.find_spec("safetensors") is not None:
        return load_model(None), True
    torch.manual_seed(0)
    return SiamFC().eval(), False


def trackers(name: str, targets: int, scales: int, device: str) -> list[Any]:
    if name == "siamfc-pytorch":
        instances: list[Any] = [CommunityTracker(model()[0], device) for _ in range(targets)]
    else:
        precision = "float32" if name.endswith("float32") else "auto"
        instances = [
            SiamFCTracker(model()[0], device=device, precision=precision, scales=scales) for _ in range(targets)
        ]
    for tracker, box in zip(instances, boxes_of(targets), strict=True):
        tracker.init(video()[0][0], box)
    return instances


def names(targets: int, scales: int) -> tuple[str, ...]:
    """siamfc-pytorch has one target and three scales; 64 targets take seconds per frame, like ours in float32."""
    exact = (f"{OURS} float32",) if targets <= 8 else ()
    return (OURS, *exact, *(("siamfc-pytorch",) if scales == 3 and targets <= 8 else ()))


def follow(name: str, scales: int, device: str) -> NDArray[np.float64]:
    (tracker,) = trackers(name, 1, scales, device)
    boxes = [tracker.update(frame) for frame in video()[0][1:8]]
    return np.array([getattr(box, "box", box) for box in boxes])


def make(targets: int, scales: int, device: str, compiled: bool) -> Made:
    frames = video()[0]
    running = {name: trackers(name, targets, scales, device) for name in names(targets, scales)}

    def check(name: str) -> None:
        """Checks that the box is still on the target (with random weights: on float32's box on the CPU)."""
        truth = video()[1][1:8] if model()[1] else follow(f"{OURS} float32", scales, "cpu")
        if not (mean := overlap(follow(name, scales, device), truth).mean()) > 0.5:
            raise AssertionError(f"{name} lost the target: mean overlap {mean:.2f}")

    def run(name: str, turn: Iterator[NDArray[np.uint8]]) -> None:
        frame = next(turn)
        for tracker in running[name]:
            tracker.update(frame)

    # Forth and back, so that the target never jumps.
    back_and_forth = [*frames[1:], *frames[-2:0:-1]]
    runs: dict[str, Run] = {n: functools.partial(run, n, itertools.cycle(back_and_forth)) for n in running}
    return Made(runs, check)


def stages(device: str) -> Row:
    """Median microseconds of each part of a frame with one target, synchronized with the GPU after each."""
    (tracker,) = trackers(OURS, 1, 3, device)

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    taken: dict[str, list[float]] = {"crop": [], "features": [], "xcorr": [], "peak": []}
    with torch.inference_mode():
        for frame in video()[0][1:]:
            marks = [now()]
            crops = tracker._crop(frame, tracker._search_sides(), tracker.config.instance)
            marks.append(now())
            features = tracker._embedder.search(torch.from_numpy(crops))
            marks.append(now())
            responses = xcorr(tracker._template, features, scale=tracker._scale)[:, 0].float().cpu()
            marks.append(now())
            tracker._find(responses)
            marks.append(now())
            for name, (begin, end) in zip(taken, itertools.pairwise(marks), strict=True):
                taken[name].append(end - begin)
    return {"stages_us": {name: round(statistics.median(t) * 1e6, 1) for name, t in taken.items()}}


def cases(quick: bool = False) -> Iterator[Case]:
    for targets, scales in ((1, 3),) if quick else ((1, 3), (1, 1), (8, 3), (64, 3)):
        yield Case(
            "tracking",
            f"{targets} target{'s' * (targets > 1)}, {scales} scale{'s' * (scales > 1)}",
            "call",
            {"frame": (*SIZE, 3)},
            names(targets, scales),
            functools.partial(make, targets, scales),
            dtype="uint8",
            unit="frames",
            extra=stages if (targets, scales) == (1, 3) else None,
        )


def test_tracking(timed: None) -> None:
    """Timed by the fixture, its values checked first."""
