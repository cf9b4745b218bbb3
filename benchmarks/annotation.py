"""Boxes between key frames: a straight line, tracking forwards only, the mean of both ways, and `siamfast annotate`.

python -m benchmarks.annotation SEQUENCES [--every 25,50,100] [--frames 300] [--results FILE]

SEQUENCES is a folder of sequences with groundtruth.txt. Keys are the true boxes of frames 0, N, 2N, ... and of the last
frame. Prints mean overlap with the truth in the frames between keys, averaged over the sequences, and how much the
frames that are listed for a person (confidence below 0.5) are worse than the others.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import siamfast
from benchmarks import harness
from siamfast.annotation.between import Annotator, Stretch
from siamfast.annotation.boxes import Box, by_target
from siamfast.data.sequences import Sequence, read_sequences
from siamfast.evaluation.metrics import overlap
from siamfast.io.kept_frames import KeptFrames
from siamfast.io.video import ImageFrames

LISTED = 0.5  # the command's default


def stretches(sequence: Sequence, every: int) -> list[Stretch]:
    """The sequence annotated from every `every`-th frame with a target, and the last one."""
    present = np.flatnonzero(np.isfinite(sequence.boxes).all(1))
    places = sorted({frame for frame in range(0, len(sequence), every) if frame in present} | {int(present[-1])})
    keys = by_target(Box(frame, 1, *sequence.boxes[frame].tolist()) for frame in places)
    frames = ImageFrames(list(sequence.frames), sequence.name)
    with KeptFrames(frames) as kept:
        return list(Annotator(keys, siamfast.Tracker).run(frames, kept, lambda *_: None))


def overlaps(stretch: Stretch, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Overlap with the truth by method, in the frames between the keys with a target."""
    assert stretch.forward is not None
    assert stretch.backward is not None
    share = np.linspace(0, 1, len(stretch.frames))[:, None]
    boxes = {
        "line": stretch.boxes[0] * (1 - share) + stretch.boxes[-1] * share,
        "forward": stretch.forward,
        "mean": stretch.forward * (1 - share) + stretch.backward * share,
        "annotate": stretch.boxes,
    }
    between = np.isfinite(truth[stretch.frames]).all(1)
    between[[0, -1]] = False
    kept = {name: overlap(own, truth[stretch.frames])[between] for name, own in boxes.items()}
    return kept | {"confidence": stretch.confidences[between]}


def measure(sequences: list[Sequence], every: int) -> dict[str, Any]:
    began, count, by_sequence, pooled = time.perf_counter(), 0, {}, []
    for sequence in sequences:
        parts = [overlaps(s, sequence.boxes) for s in stretches(sequence, every) if s.backward is not None]
        own = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        pooled.append(own)
        count += len(sequence)
        by_sequence[sequence.name] = {k: round(float(v.mean()), 4) for k, v in own.items() if k != "confidence"}
    methods = by_sequence[sequences[0].name]
    listed = np.concatenate([own["confidence"] for own in pooled]) < LISTED
    ours = np.concatenate([own["annotate"] for own in pooled])
    return {
        "every": every,
        "overlap": {name: round(float(np.mean([row[name] for row in by_sequence.values()])), 4) for name in methods},
        "listed": {
            "share": round(float(listed.mean()), 4),
            "overlap": round(float(ours[listed].mean()), 4),
            "overlap_of_others": round(float(ours[~listed].mean()), 4),
            # of the frames that are bad, those that are listed
            "share_of_bad": round(float(listed[ours < 0.5].mean()), 4),
        },
        "sequences": by_sequence,
        "frames_per_second": round(count / (time.perf_counter() - began), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", type=Path)
    parser.add_argument("--every", default="25,50,100", help="frames from key to key (default: 25,50,100)")
    parser.add_argument("--frames", type=int, default=300, help="of each sequence, at most (default: 300)")
    parser.add_argument("--results", type=Path, help="append the rows here")
    options = parser.parse_args()
    sequences = [s.first(min(len(s), options.frames)) for s in read_sequences(options.sequences)]
    for every in map(int, options.every.split(",")):
        row = measure(sequences, every)
        print(every, row["overlap"], row["listed"], f"{row['frames_per_second']} frames/s", flush=True)
        if options.results:
            harness.append(harness.about("cpu") | row, options.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
