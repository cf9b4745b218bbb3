"""Confidences are written beside the boxes, pooled over a data set, and optional in older results."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siamfast.data.sequences import Sequence
from siamfast.evaluation.one_pass import Entry, read_dataset
from siamfast.evaluation.protocols import PROTOCOLS, write_result
from siamfast.evaluation.run import run_tracker
from siamfast.evaluation.subsets import Subset
from siamfast.evaluation.summary import summarize
from tests.evaluation.data_sets import evaluate, make_folder, summary


def _sequences(root: Path) -> list[Sequence]:
    return read_dataset(PROTOCOLS["folder"], Subset("all", root), None, lambda path, reason: pytest.fail(reason))


class Recalling:
    """A tracker that returns the given boxes and confidences."""

    def __init__(self, boxes: np.ndarray, confidences: Any) -> None:
        self.boxes, self.confidences = boxes, confidences

    def track(self, img_files: Any, box: Any, visualize: bool = False) -> tuple[Any, Any]:
        return self.boxes, np.full(len(self.boxes), 0.1)


def test_confidence_is_scored_over_all_frames_but_each_sequences_first(tmp_path: Path) -> None:
    """A tracker is lost for four frames of `a`, and the target is absent in two of `b`: 6 of 14 scored frames."""
    root, folder = make_folder(tmp_path / "data"), PROTOCOLS["folder"]
    rows = (root / "b" / "groundtruth.txt").read_text().splitlines()
    (root / "b" / "groundtruth.txt").write_text("\n".join([*rows[:-2], *["nan,nan,nan,nan"] * 2]) + "\n")
    sequences = _sequences(root)

    def lost_auc(**confidences: list[float]) -> float:
        for sequence in sequences:
            boxes = np.nan_to_num(sequence.boxes, nan=5.0)
            if sequence.name == "a":
                boxes[4:] += 1000
            tracker = Recalling(boxes, confidences[sequence.name])
            write_result(folder, tmp_path, "t", sequence.name, run_tracker(lambda tracker=tracker: tracker, sequence))
        return summarize(folder, tmp_path, Entry("t", "siamfc"), sequences).figures["lost_auc"]

    a = [0, 0.9, 0.8, 0.7, 0.6, 0.1, 0.1, 0.1]
    assert lost_auc(a=a, b=[0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.2, 0.2]) == 1.0
    # One frame on the target is less confident than one lost frame of `a` and both of `b`: 3 of 8 x 6 pairs are wrong.
    assert lost_auc(a=a, b=[0, 0.15, 0.9, 0.9, 0.9, 0.9, 0.2, 0.2]) == pytest.approx(1 - 3 / 48)


def test_absent_targets_bring_long_term_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In both the table and the files; without an absence there are none."""
    root, out = make_folder(tmp_path / "data"), tmp_path / "out"
    assert evaluate("folder", root, tmp_path / "whole") == 0
    assert "long_term" not in summary(tmp_path / "whole")["trackers"]["mobile"]
    assert "long term" not in capsys.readouterr().out
    rows = (root / "b" / "groundtruth.txt").read_text().splitlines()
    (root / "b" / "groundtruth.txt").write_text("\n".join([*rows[:-2], *["nan,nan,nan,nan"] * 2]) + "\n")
    assert evaluate("folder", root, out) == 0
    figures = summary(out)["trackers"]["mobile"]["long_term"]
    assert 0 < figures["f"] <= 1
    assert (figures["returns"], figures["reacquired"]) == (0, None)
    assert f"{figures['precision']:16.3f}" in capsys.readouterr().out
    assert "<h2>Long term</h2>" in (out / "report.html").read_text()


def test_one_confidence_per_frame_is_required(tmp_path: Path) -> None:
    (sequence, _) = _sequences(make_folder(tmp_path / "data"))
    with pytest.raises(ValueError, match=r"confidences of shape \(3,\), expected \(8,\)"):
        run_tracker(lambda: Recalling(sequence.boxes, [1, 1, 1]), sequence)


def test_results_without_confidences_are_still_read(tmp_path: Path) -> None:
    root, out = make_folder(tmp_path / "data"), tmp_path / "out"
    assert evaluate("folder", root, out) == 0
    before = summary(out)["trackers"]["mobile"]
    shutil.rmtree(out / "results" / "confidences")
    boxes = out / "results" / "folder" / "mobile" / "a.txt"
    written = boxes.stat().st_mtime_ns
    assert evaluate("folder", root, out) == 0
    assert boxes.stat().st_mtime_ns == written
    after = summary(out)["trackers"]["mobile"]
    assert after["overall"]["lost_auc"] is None
    assert after["overall"]["ao"] == before["overall"]["ao"]
