"""Evaluate a tracker class of your own: anything with the got10k toolkit's `track(files, box)`.

python examples/evaluate_own.py
"""

import tempfile
import time
from pathlib import Path

import numpy as np

import siamfast
from siamfast.data.sequences import read_sequence
from siamfast.evaluation.metrics import score
from siamfast.evaluation.run import run_tracker


class Still:
    """The weakest tracker there is: the target stays where it was."""

    name = "still"
    is_deterministic = True

    def track(self, img_files: list[str], box: np.ndarray, visualize: bool = False) -> tuple[np.ndarray, np.ndarray]:
        began = time.perf_counter()
        boxes = np.tile(box, (len(img_files), 1))
        return boxes, np.full(len(img_files), (time.perf_counter() - began) / len(img_files))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        from siamfast.cli import main as siamfast_command

        siamfast_command(["synthesize", folder, "--clips", "2", "--length", "40"])
        for path in sorted(Path(folder).glob("clip-*")):
            sequence = read_sequence(path)
            for name, make in {"still": Still, "siamfast": siamfast.Tracker}.items():
                result = run_tracker(make, sequence)
                figures = score(result.boxes, sequence.boxes)
                print(f"{path.name} {name}: AO {figures.ao:.3f}, {1 / result.times[1:].mean():,.0f} frames/s")


if __name__ == "__main__":
    main()
