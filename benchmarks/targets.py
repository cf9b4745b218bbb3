"""Many targets in one video: what 8 and 64 of them cost beside one, and beside a tracker for each.

    python -m benchmarks.targets [--engine onnxruntime] [--results FILE]

Values first: every target's boxes are those of a tracker of its own. Then all take turns, frame by frame; medians of
the milliseconds per frame.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import siamfast
from benchmarks import harness
from siamfast.data.synthetic import SyntheticVideo

COUNTS, SIZE, LENGTH, SEED, TURNS = (1, 8, 64), (480, 640), 12, 21, 3
CLOSE = 0.5  # pixels: PyTorch sums a batch in another order


def boxes_of(video: SyntheticVideo, count: int) -> dict[int, Any]:
    """The clip's target and boxes of 24 to 80 pixels anywhere."""
    rng = np.random.default_rng(SEED)
    others = rng.uniform([0, 0, 24, 24], [SIZE[1] - 80, SIZE[0] - 80, 80, 80], (count - 1, 4))
    return dict(enumerate([np.array(video.box(0)), *others]))


def check(frames: list[NDArray[np.uint8]], boxes: dict[int, Any], options: dict[str, Any]) -> None:
    """Raises an AssertionError where the boxes are not those of single trackers."""
    many = siamfast.MultiTracker(**options).add(frames[0], boxes)
    singles = {name: siamfast.MobileTracker(**options).init(frames[0], box) for name, box in boxes.items()}
    for frame in frames[1:5]:
        for name, track in many.update(frame).items():
            apart = np.abs(np.subtract(track.box, singles[name].update(frame).box)).max()
            assert apart < CLOSE, f"target {name}: {apart:.2f} px from a tracker of its own"


def memory_of(frames: list[NDArray[np.uint8]], boxes: dict[int, Any], options: dict[str, Any]) -> float:
    """MB at the peak of a frame's update, with the targets' state, beyond what the process had before they were added;
    the network is loaded and has run once."""
    tracker = siamfast.MultiTracker(**options).add(frames[0], {"first": boxes[0]})
    tracker.update(frames[1])

    def run() -> None:
        tracker.add(frames[0], boxes).update(frames[1])

    return (harness.peak_bytes(run, "cpu") or 0) / 1e6


def measure(options: dict[str, Any]) -> list[dict[str, Any]]:
    video = SyntheticVideo(SEED, length=LENGTH, size=SIZE)
    frames = [video.frame(t) for t in range(LENGTH)]
    check(frames, boxes_of(video, COUNTS[1]), options)
    # Before the trackers below fill the allocator: what a new one needs beyond what is there, state and passing arrays.
    memory = {n: memory_of(frames, boxes_of(video, n), options) for n in COUNTS}
    # No search elsewhere: how many boxes on background are lost would decide the time.
    steady = options | {"places_per_frame": 0}
    trackers = {n: siamfast.MultiTracker(**steady).add(frames[0], boxes_of(video, n)) for n in COUNTS}
    singles = {
        n: [siamfast.MobileTracker(**steady).init(frames[0], box) for box in boxes_of(video, n).values()]
        for n in COUNTS
    }
    times: dict[tuple[str, int], list[float]] = {(kind, n): [] for kind in ("together", "apart") for n in COUNTS}
    for _ in range(TURNS):
        for frame in frames[1:]:
            for n in COUNTS:
                begin = time.perf_counter()
                trackers[n].update(frame)
                middle = time.perf_counter()
                for single in singles[n]:
                    single.update(frame)
                times["together", n].append(middle - begin)
                times["apart", n].append(time.perf_counter() - middle)
    median = {key: 1e3 * float(np.median(values)) for key, values in times.items()}
    return [
        {
            "targets": n,
            "engine": trackers[n].engine,
            "precision": trackers[n].precision,
            "ms": round(median["together", n], 3),
            "times_one": round(median["together", n] / median["together", 1], 2),
            "ms_apart": round(median["apart", n], 3),
            "mb": round(memory[n], 1),
            "frames_per_second": round(1e3 / median["together", n], 1),
        }
        for n in COUNTS
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", help="onnxruntime or torch (default: both)")
    parser.add_argument("--results", type=Path, help="append the rows here")
    options = parser.parse_args()
    for engine in options.engine or ("onnxruntime", "torch"):
        for row in measure({"engine": engine}):
            print(*(f"{name} {value}" for name, value in row.items()), sep=", ", flush=True)
            if options.results:
                harness.append(harness.about("cpu") | row, options.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
