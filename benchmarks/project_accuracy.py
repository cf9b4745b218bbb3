"""How well siamfc-pytorch's tracker follows real video when `siamfast.compat.accelerate` runs it in less precision.

python -m benchmarks.project_accuracy CLONES --weights FILE --sequences FOLDER [--frames 200] [--results FILE]

Networks of random weights follow nothing, so this needs trained ones, of siamfc-pytorch's layout, and sequences:
folders with img/ and groundtruth.txt. AO is the mean overlap with the truth, over the frames of a sequence, then over
sequences.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from benchmarks.projects import RESULTS, commit_of, load_module, no_cuda
from siamfast.compat import accelerate
from siamfast.compat.reduced import PRECISIONS, missing
from siamfast.data.sequences import Sequence, read_sequences
from siamfast.evaluation.metrics import overlap
from siamfast.io.images import read_image


def overlaps(tracker: Any, sequences: list[Sequence]) -> dict[str, float]:
    """The mean overlap of each sequence, its first frame left out."""
    means = {}
    for sequence in sequences:
        tracker.init(read_image(sequence.frames[0]), sequence.boxes[0])
        boxes = np.array([tracker.update(read_image(path)) for path in sequence.frames[1:]])
        there = np.isfinite(sequence.boxes[1:]).all(1)
        means[sequence.name] = round(float(overlap(boxes[there], sequence.boxes[1:][there]).mean()), 4)
        print(sequence.name, means[sequence.name], flush=True)
    return means


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--sequences", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    no_cuda()
    folder = arguments.clones / "siamfc-pytorch"
    tracker = load_module(folder, "siamfc").TrackerSiamFC()
    tracker.net.load_state_dict(torch.load(arguments.weights, map_location="cpu", weights_only=True))
    sequences = [each.first(arguments.frames) for each in read_sequences(arguments.sequences)]
    for precision in PRECISIONS:
        if missing(precision) is not None:
            continue
        with accelerate(tracker, precision=precision) as done:
            left_out = done.steps[-1].difference is None
            means = {} if left_out else overlaps(tracker, sequences)
        if means:
            row = {
                "suite": "project accuracy", **harness.about("cpu"), "project": "siamfc-pytorch",
                "their_commit": commit_of(folder), "weights": arguments.weights.name, "precision": precision,
                "frames": arguments.frames, "ao": round(float(np.mean(list(means.values()))), 4), "sequences": means,
            }  # fmt: skip
            harness.append(row, arguments.results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
