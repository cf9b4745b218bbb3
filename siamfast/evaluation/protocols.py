"""What the benchmarks agree on and differ in: which frames count, how sequences are averaged, where results lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamfast.data.sequences import Sequence
from siamfast.files import replacing


@dataclass(frozen=True)
class Protocol:
    """One-pass evaluation as a benchmark does it.

    kind: the layout of the data set (siamfast.data.readers). folder: of its results, below results/. first_counts:
    whether the given first frame is scored. pooled: whether frames of all sequences are averaged, or sequences.
    nested: results/FOLDER/TRACKER/NAME/NAME_001.txt, as the GOT-10k toolkit has them, or TRACKER/NAME.txt, as OTB's,
    LaSOT's and pysot have them. origin: what the benchmark calls the first pixel, which its result files are in.
    """

    kind: str
    folder: str
    first_counts: bool = True
    pooled: bool = False
    nested: bool = False
    origin: int = 0

    def files(self, results: Path, tracker: str, sequence: str) -> tuple[Path, Path]:
        """Where the boxes and the times of a run lie."""
        top = results / self.folder / tracker
        if self.nested:
            return top / sequence / f"{sequence}_001.txt", top / sequence / f"{sequence}_time.txt"
        return top / f"{sequence}.txt", top / "times" / f"{sequence}_time.txt"

    def truth(self, sequence: Sequence) -> NDArray[np.float64]:
        """(T, 4) boxes that are scored against; nan where a frame does not count: absent, hidden, or given."""
        truth = np.array(sequence.boxes, dtype=np.float64)
        if sequence.visibility is not None:
            truth[sequence.visibility <= 0] = np.nan
        if not self.first_counts:
            truth[0] = np.nan
        return truth


PROTOCOLS = {
    "otb": Protocol("otb", "OTB2015", origin=1),
    "got10k": Protocol("got10k", "GOT-10k", first_counts=False, pooled=True, nested=True),
    "lasot": Protocol("lasot", "LaSOT"),
    "folder": Protocol("folder", "folder", first_counts=False),
}


def write_result(
    protocol: Protocol,
    results: Path,
    tracker: str,
    sequence: str,
    boxes: NDArray[np.float64],
    times: NDArray[np.float64],
) -> None:
    """Write a run, the boxes last, so that what has boxes is whole."""
    where, clock = protocol.files(results, tracker, sequence)
    shifted = boxes + np.array([protocol.origin, protocol.origin, 0, 0])
    for path, rows, form in ((clock, times[:, None], "%.8f"), (where, shifted, "%.3f")):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            np.savetxt(temporary, rows, fmt=form, delimiter=",")


def read_result(
    protocol: Protocol, results: Path, tracker: str, sequence: Sequence
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Boxes (T, 4) and times (T,) of a run; None where there is none, or one of another length."""
    where, clock = protocol.files(results, tracker, sequence.name)
    try:
        boxes = np.loadtxt(where, delimiter=",", ndmin=2)
        times = np.loadtxt(clock, delimiter=",", ndmin=1)
    except (OSError, ValueError):
        return None
    if boxes.shape != (len(sequence), 4) or len(times) != len(sequence):
        return None
    return boxes - np.array([protocol.origin, protocol.origin, 0, 0]), times.reshape(len(sequence), -1)[:, 0]
