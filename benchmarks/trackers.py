"""Mean overlap of trackers on annotated real video: ours beside OpenCV's, and whatever weights are named.

    python -m benchmarks.trackers SEQUENCES [--frames 200] [--weights NAME=PATH ...] [--results FILE]

OpenCV's TrackerCSRT, TrackerKCF and TrackerMIL are in opencv-contrib-python-headless, which takes the place of
opencv-python-headless: `make trackers SEQUENCES=...` runs this in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import siamfast
from siamfast.data.sequences import Sequence, read_sequences
from siamfast.evaluation.metrics import overlap
from siamfast.tracking.tracker import Tracker

OPENCV = ("CSRT", "KCF", "MIL")


class OpenCVTracker:
    """One of OpenCV's trackers behind the got10k toolkit's interface; a lost target keeps its last box."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def track(self, img_files: list[Path], box: Any, visualize: bool = False) -> tuple[np.ndarray, np.ndarray]:
        tracker = create_opencv(self.kind)
        boxes, times = [np.asarray(box, dtype=float)], [0.0]
        tracker.init(cv2.imread(str(img_files[0])), tuple(round(float(v)) for v in box))
        for path in img_files[1:]:
            frame = cv2.imread(str(path))
            began = time.perf_counter()
            found, where = tracker.update(frame)
            times.append(time.perf_counter() - began)
            boxes.append(np.asarray(where, dtype=float) if found else boxes[-1])
        return np.stack(boxes), np.asarray(times)


def create_opencv(kind: str) -> Any:
    """cv2.TrackerKIND_create(), wherever this OpenCV keeps it; None when it has none."""
    for home in (cv2, getattr(cv2, "legacy", None)):
        create = getattr(home, f"Tracker{kind}_create", None)
        if create is not None:
            return create()
        named = getattr(home, f"Tracker{kind}", None)
        if named is not None and hasattr(named, "create"):
            return named.create()
    return None


def measure(make: Callable[[], Any], sequence: Sequence) -> dict[str, float]:
    """AO and success rates of one run (the given first frame left out), frames/s of the updates alone."""
    boxes, times = make().track(sequence.frames, sequence.boxes[0])
    overlaps = overlap(boxes, sequence.boxes)[1:]
    overlaps = overlaps[np.isfinite(overlaps)]
    return {
        "ao": float(overlaps.mean()),
        "sr50": float((overlaps > 0.5).mean()),
        "sr75": float((overlaps > 0.75).mean()),
        "fps": float((len(times) - 1) / max(times[1:].sum(), 1e-9)),
        "frames": len(times),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", help="folder of sequences (frames + groundtruth.txt)")
    parser.add_argument("--frames", type=int, default=200, help="first frames of each sequence that are tracked")
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=PATH", help="further weights of ours")
    parser.add_argument("--opencv", action=argparse.BooleanOptionalAction, default=True, help="also OpenCV's trackers")
    parser.add_argument("--results", type=Path, help="JSON lines to append to")
    arguments = parser.parse_args()

    makers: dict[str, Callable[[], Any]] = {}
    if "default=" not in arguments.weights:
        makers["siamfast"] = lambda: Tracker()
    for entry in arguments.weights:
        name, _, path = entry.partition("=")
        if path:
            makers[f"siamfast, {name}"] = lambda path=path: Tracker(path)  # type: ignore[misc]
    if arguments.opencv:
        for kind in OPENCV:
            if create_opencv(kind) is None:
                print(f"OpenCV {cv2.__version__} here has no Tracker{kind}: install opencv-contrib-python-headless")
            else:
                makers[f"OpenCV {kind}"] = lambda kind=kind: OpenCVTracker(kind)  # type: ignore[misc]

    sequences = [s.first(min(arguments.frames, len(s))) for s in read_sequences(arguments.sequences)]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "suite": "trackers",
        "commit": commit.stdout.strip(),
        "device": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "siamfast": siamfast.__version__,
        "torch": torch.__version__,
        "opencv": cv2.__version__,
    }
    print(f"| AO (first {arguments.frames} frames) | " + " | ".join(s.name for s in sequences) + " | mean | FPS |")
    print("|" + "---|" * (len(sequences) + 3))
    for name, make in makers.items():
        rows = [measure(make, sequence) for sequence in sequences]
        for sequence, row in zip(sequences, rows, strict=True):
            if arguments.results is not None:
                arguments.results.parent.mkdir(parents=True, exist_ok=True)
                with arguments.results.open("a") as results:
                    results.write(json.dumps({**about, "tracker": name, "sequence": sequence.name, **row}) + "\n")
        cells = [f"{row['ao']:.3f} / {row['sr50']:.2f}" for row in rows]
        mean, sr = np.mean([row["ao"] for row in rows]), np.mean([row["sr50"] for row in rows])
        fps = np.median([row["fps"] for row in rows])
        print(f"| {name} | " + " | ".join(cells) + f" | {mean:.3f} / {sr:.2f} | {fps:.0f} |", flush=True)


if __name__ == "__main__":
    main()
