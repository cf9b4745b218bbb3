"""Turn result files into figures: per sequence, and over all of them with the benchmark's averaging."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamfast.data.sequences import Sequence
from siamfast.evaluation.long_term import LongTerm, long_term
from siamfast.evaluation.metrics import (
    NORMALIZED_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
    Scores,
    center_error,
    lost_auc,
    normalized_error,
    overlap,
    precision_curve,
    score,
    success_curve,
)
from siamfast.evaluation.one_pass import Entry
from siamfast.evaluation.protocols import Protocol, read_result

FIGURES = ("auc", "precision20", "normalized_precision", "ao", "sr50", "sr75")  # of Scores
COLUMNS = (*FIGURES, "lost_auc", "fps")  # of a Summary
LONG_TERM = ("f", "precision", "recall", "reacquired", "false_alarms", "returns")  # of LongTerm


@dataclass(frozen=True)
class Run:
    """A tracker on a sequence: boxes and truth (T, 4); frames per second by the median update; scores, None if no frame
    counts; confidences (T,), None if the tracker has none."""

    sequence: Sequence
    boxes: NDArray[np.float64]
    truth: NDArray[np.float64]
    fps: float
    scores: Scores | None
    confidences: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Summary:
    """A tracker on a data set: its figures by name (COLUMNS); curves by name; its runs; long-term figures, None if no
    target is ever absent or the tracker has no confidence."""

    label: str
    figures: dict[str, float]
    curves: dict[str, NDArray[np.float64]]
    runs: list[Run]
    long_term: LongTerm | None = None

    def as_json(self) -> dict[str, Any]:
        """Figures over all sequences and per sequence; None for one that is not finite."""
        sequences = {
            run.sequence.name: _finite((run.scores._asdict() if run.scores else {}) | {"fps": run.fps})
            for run in self.runs
        }
        long_term = {} if self.long_term is None else {"long_term": _finite(self.long_term._asdict())}
        return {"overall": _finite(self.figures), **long_term, "sequences": sequences}


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def summarize(protocol: Protocol, results: Path, entry: Entry, sequences: list[Sequence]) -> Summary:
    """Summarize a tracker over the sequences with results."""
    runs = []
    for sequence in sequences:
        result = read_result(protocol, results, entry.label, sequence)
        if result is None:
            continue
        truth = protocol.truth(sequence)
        updates = result.times[1:][result.times[1:] > 0]
        fps = float(1 / np.median(updates)) if len(updates) else float("nan")
        scores = score(result.boxes, truth) if np.isfinite(truth).all(1).any() else None
        runs.append(Run(sequence, result.boxes, truth, fps, scores, result.confidences))
    counted = [run for run in runs if run.scores is not None]
    if protocol.pooled and counted:
        counted_boxes, truths = (np.concatenate([getattr(r, n) for r in counted]) for n in ("boxes", "truth"))
        figures = {name: float(getattr(score(counted_boxes, truths), name)) for name in FIGURES}
        curves = _curves(counted_boxes, truths)
    else:
        figures = {
            name: float(np.mean([getattr(run.scores, name) for run in counted])) if counted else float("nan")
            for name in FIGURES
        }
        run_curves = [_curves(run.boxes, run.truth) for run in counted]
        curves = {name: np.mean([c[name] for c in run_curves], axis=0) for name in run_curves[0]} if run_curves else {}
    figures["lost_auc"] = _lost_auc(runs)
    figures["fps"] = float(np.median([run.fps for run in runs])) if runs else float("nan")
    return Summary(entry.label, figures, curves, runs, _long_term(runs))


def _long_term(runs: list[Run]) -> LongTerm | None:
    confident = [(r.boxes, r.truth, r.confidences) for r in runs if r.confidences is not None]
    if not any(np.isnan(truth[1:]).any() for _, truth, _ in confident):
        return None
    return long_term(confident)


def _lost_auc(runs: list[Run]) -> float:
    """`lost_auc` over the pooled frames of all runs with confidences, without the given first frames."""
    confident = [run for run in runs if run.confidences is not None]
    if not confident:
        return float("nan")
    boxes, truth, confidences = (
        np.concatenate([getattr(run, name)[1:] for run in confident]) for name in ("boxes", "truth", "confidences")
    )
    return lost_auc(boxes, truth, confidences)


def _curves(boxes: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return {
        "success": success_curve(overlap(boxes, truth), SUCCESS_THRESHOLDS),
        "precision": precision_curve(center_error(boxes, truth), PRECISION_THRESHOLDS),
        "normalized": precision_curve(normalized_error(boxes, truth), NORMALIZED_THRESHOLDS),
    }
