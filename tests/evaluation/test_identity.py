"""Results of other weights, options or data are never reused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from siamfast.evaluation.one_pass import Entry
from siamfast.tracking.registry import weight_files
from tests.evaluation.data_sets import box_rows, evaluate, make_folder, write_frames


def test_results_of_other_weights_are_never_mixed(tmp_path: Path) -> None:
    root, out = make_folder(tmp_path / "data"), tmp_path / "out"
    assert evaluate("folder", root, out, "--frames", "3") == 0
    assert evaluate("folder", root, out) == 2
    assert evaluate("folder", root, out, "--frames", "3", "--model", "mobile=siamfc:scales=1") == 2
    assert evaluate("folder", root, out, "--frames", "3", "--model", "other=siamfc:scales=1") == 0
    assert set(json.loads((out / "runs.json").read_text())) == {"mobile", "other"}


def test_data_of_the_same_name_is_never_scored_with_other_boxes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, other, out = make_folder(tmp_path / "one"), tmp_path / "other", tmp_path / "out"
    for seed, name in enumerate(("a", "b"), start=7):
        (other / name / "groundtruth.txt").write_text(box_rows(write_frames(other / name / "img", seed)))
    assert evaluate("folder", root, out) == 0
    capsys.readouterr()
    assert evaluate("folder", other, out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"root: '{root}' there, '{other}' here" in line
    shutil.rmtree(root)
    shutil.copytree(other, root)  # the same path with other frames
    assert evaluate("folder", root, out) == 2
    assert "on a sequence 'a' of other frames or another truth" in capsys.readouterr().err
    assert evaluate("folder", root, tmp_path / "new") == 0


def test_a_failed_sequence_is_run_once_it_is_repaired(tmp_path: Path) -> None:
    root, out = make_folder(tmp_path / "data"), tmp_path / "out"
    frame = root / "b" / "img" / "00000003.jpg"
    whole = frame.read_bytes()
    frame.write_bytes(b"no image")
    assert evaluate("folder", root, out) == 1
    frame.write_bytes(whole)
    assert evaluate("folder", root, out) == 0


def test_packaged_weights_are_part_of_a_runs_identity(tmp_path: Path) -> None:
    packaged = {model: Entry(model, model).signature()["sha256"] for model in ("mobile", "siamfc", "guided")}
    assert all(packaged.values())
    assert len(set(packaged.values())) == 3
    assert Entry("k", "opencv:kcf").signature()["sha256"] is None
    for path in weight_files(None, "mobile"):
        shutil.copy(path, tmp_path)
    entry = Entry("mine", str(tmp_path / "mobile.safetensors"))
    assert entry.signature()["sha256"] == packaged["mobile"]
    (tmp_path / "mobile.onnx").write_bytes(b"another graph")
    assert entry.signature()["sha256"] != packaged["mobile"]
