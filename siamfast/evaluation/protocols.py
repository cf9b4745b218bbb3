"""The benchmarks' protocols: which frames count, how sequences are averaged, and the paths of results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamfast.data.sequences import Sequence
from siamfast.evaluation.run import Result
from siamfast.io.files import replacing


class ResultFiles(NamedTuple):
    """The paths of a Result's parts."""

    boxes: Path
    times: Path
    confidences: Path


@dataclass(frozen=True)
class Protocol:
    """The one-pass evaluation of a benchmark.

    kind: the layout of the data set (siamfast.data.readers). folder: of its results, below results/. first_counts:
    whether the given first frame is scored. pooled: whether frames of all sequences are averaged, or sequences.
    nested: results/FOLDER/TRACKER/NAME/NAME_001.txt, the GOT-10k toolkit's own layout, or TRACKER/NAME.txt, its layout
    for OTB. origin: the number of the first pixel in the benchmark's result files.
    """

    kind: str
    folder: str
    first_counts: bool = True
    pooled: bool = False
    nested: bool = False
    origin: int = 0

    def files(self, results: Path, tracker: str, sequence: str) -> ResultFiles:
        """The paths of a run's result."""
        top = results / self.folder / tracker
        # Outside the benchmark's own folder, which is sent to GOT-10k's server as it is.
        confidences = results / "confidences" / self.folder / tracker / f"{sequence}.txt"
        if self.nested:
            inner = top / sequence
            return ResultFiles(inner / f"{sequence}_001.txt", inner / f"{sequence}_time.txt", confidences)
        return ResultFiles(top / f"{sequence}.txt", top / "times" / f"{sequence}_time.txt", confidences)

    def truth(self, sequence: Sequence) -> NDArray[np.float64]:
        """(T, 4) boxes to score against; nan where a frame does not count: absent, hidden, or given."""
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


def write_result(protocol: Protocol, results: Path, tracker: str, sequence: str, result: Result) -> None:
    """Write a run, the boxes last, so that a run with boxes is complete."""
    files = protocol.files(results, tracker, sequence)
    shifted = result.boxes + np.array([protocol.origin, protocol.origin, 0, 0])
    parts = [(files.times, result.times[:, None], "%.8f"), (files.boxes, shifted, "%.3f")]
    if result.confidences is not None:
        parts.insert(0, (files.confidences, result.confidences[:, None], "%.8f"))
    for path, rows, form in parts:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            np.savetxt(temporary, rows, fmt=form, delimiter=",")


def read_result(protocol: Protocol, results: Path, tracker: str, sequence: Sequence) -> Result | None:
    """A run's result; None if it is missing or has another length.

    Its confidences are None if none were written: by a tracker without any, or by an earlier siamfast.
    """
    files = protocol.files(results, tracker, sequence.name)
    try:
        boxes = np.loadtxt(files.boxes, delimiter=",", ndmin=2)
        times = np.loadtxt(files.times, delimiter=",", ndmin=1)
        confidences = np.loadtxt(files.confidences, ndmin=1) if files.confidences.is_file() else None
    except (OSError, ValueError):
        return None
    if boxes.shape != (len(sequence), 4) or len(times) != len(sequence):
        return None
    if confidences is not None and confidences.shape != (len(sequence),):
        return None
    boxes -= np.array([protocol.origin, protocol.origin, 0, 0])
    return Result(boxes, times.reshape(len(sequence), -1)[:, 0], confidences)
