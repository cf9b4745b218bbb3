"""`siamfast eval` writes files that the benchmarks' tools read with the same figures, resumes, and reports errors."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamfast.evaluation import one_pass
from siamfast.evaluation.metrics import normalized_error
from siamfast.evaluation.one_pass import Entry, parse_entry, read_dataset
from siamfast.evaluation.protocols import PROTOCOLS, read_result, write_result
from siamfast.evaluation.report import COLORS, worst_frame
from siamfast.evaluation.run import Result
from siamfast.evaluation.subsets import Subset
from siamfast.evaluation.summary import Run, summarize
from tests.evaluation.data_sets import (
    FRAMES,
    MAKERS,
    box_rows,
    evaluate,
    make_folder,
    make_got10k,
    make_otb,
    summary,
)


@pytest.mark.parametrize("kind", list(MAKERS))
def test_every_layout_is_evaluated(kind: str, tmp_path: Path) -> None:
    root, out = MAKERS[kind](tmp_path / "data"), tmp_path / "out"
    assert evaluate(kind, root, out) == 0
    results = summary(out)["trackers"]["mobile"]
    assert len(results["sequences"]) == 2
    counted = {"otb": 8, "got10k": 6, "lasot": 7, "folder": 7}[kind]  # without the given first frame and hidden ones
    assert all(s["frames"] == counted for s in results["sequences"].values())
    assert 0 < results["overall"]["ao"] <= 1
    assert (out / "report.html").stat().st_size > 10_000
    files = {path.relative_to(out / "results").as_posix() for path in (out / "results").rglob("*.txt")}
    confidences = {name for name in files if name.startswith("confidences/")}
    assert len(confidences) == 2
    assert (
        files - confidences
        == {
            "otb": {
                "OTB2015/mobile/Basketball.txt",
                "OTB2015/mobile/Bolt.txt",
                "OTB2015/mobile/times/Basketball_time.txt",
                "OTB2015/mobile/times/Bolt_time.txt",
            },
            "got10k": {
                f"GOT-10k/mobile/GOT-10k_Val_00000{n}/GOT-10k_Val_00000{n}_{end}.txt"
                for n in (1, 2)
                for end in ("001", "time")
            },
            "lasot": {
                "LaSOT/mobile/cat-1.txt",
                "LaSOT/mobile/cat-2.txt",
                "LaSOT/mobile/times/cat-1_time.txt",
                "LaSOT/mobile/times/cat-2_time.txt",
            },
            "folder": {
                "folder/mobile/a.txt",
                "folder/mobile/b.txt",
                "folder/mobile/times/a_time.txt",
                "folder/mobile/times/b_time.txt",
            },
        }[kind]
    )


def test_the_got10k_toolkit_reads_our_otb_results_and_agrees(tmp_path: Path) -> None:
    experiments = pytest.importorskip("got10k.experiments")
    root, out = make_otb(tmp_path / "data"), tmp_path / "out"
    assert evaluate("otb", root, out) == 0
    datasets = pytest.importorskip("got10k.datasets")
    experiment = experiments.ExperimentOTB.__new__(experiments.ExperimentOTB)  # its own constructor would download
    experiment.dataset = datasets.OTB(str(root), 2015, download=False)
    experiment.result_dir, experiment.report_dir = str(out / "results" / "OTB2015"), str(tmp_path / "reports")
    experiment.nbins_iou, experiment.nbins_ce = 21, 51
    theirs = experiment.report(["mobile"])["mobile"]["overall"]
    ours = summary(out)["trackers"]["mobile"]["overall"]
    assert theirs["success_score"] == pytest.approx(ours["auc"], abs=2e-3)
    assert theirs["precision_score"] == pytest.approx(ours["precision20"], abs=2e-3)


def test_the_got10k_toolkit_reads_our_got10k_results_and_agrees(tmp_path: Path) -> None:
    experiments = pytest.importorskip("got10k.experiments")
    root, out = make_got10k(tmp_path / "data"), tmp_path / "out"
    assert evaluate("got10k", root, out) == 0
    experiment = experiments.ExperimentGOT10k(str(root), "val", str(out / "results"), str(tmp_path / "reports"))
    theirs = experiment.report(["mobile"])["mobile"]["overall"]
    ours = summary(out)["trackers"]["mobile"]["overall"]
    assert theirs["ao"] == pytest.approx(ours["ao"], abs=2e-3)  # the toolkit clips boxes to the frame
    assert theirs["sr"] == pytest.approx(ours["sr50"], abs=1e-9)


def test_a_test_set_gets_results_without_scores(tmp_path: Path) -> None:
    """GOT-10k's test set has the first boxes only."""
    root, out = make_got10k(tmp_path / "data"), tmp_path / "out"
    shutil.copytree(root / "val", root / "test")
    for path in (root / "test").glob("*/groundtruth.txt"):
        path.write_text(path.read_text().splitlines()[0] + "\n")
    assert evaluate("got10k", root, out, "--subset", "test") == 0
    assert summary(out)["trackers"]["mobile"]["overall"]["ao"] is None
    rows = np.loadtxt(out / "results/GOT-10k/mobile/GOT-10k_Val_000001/GOT-10k_Val_000001_001.txt", delimiter=",")
    assert rows.shape == (FRAMES, 4)


def test_finished_sequences_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = make_folder(tmp_path / "data"), tmp_path / "out"
    done: list[str] = []
    real = one_pass.run_one

    def counting(run: one_pass.Run) -> Result | str:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(run.sequence.name)
        return real(run)

    monkeypatch.setattr(one_pass, "run_one", counting)
    assert evaluate("folder", root, out) == 130
    assert list(summary(out)["trackers"]["mobile"]["sequences"]) == ["a"]
    (out / "results" / "folder" / "mobile" / "b.txt").write_text("1,2,3\n")  # torn
    monkeypatch.setattr(one_pass, "run_one", lambda run: done.append(run.sequence.name) or real(run))
    assert evaluate("folder", root, out) == 0
    assert done == ["a", "b"]
    assert evaluate("folder", root, out) == 0
    assert done == ["a", "b"]


def test_several_processes_give_the_same_results(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data")
    for name, workers in (("one", "0"), ("two", "2")):
        assert evaluate("folder", root, tmp_path / name, "--workers", workers, "--model", "siamfc") == 0
    for sequence in ("a", "b"):
        alone, shared = (
            np.loadtxt(tmp_path / n / f"results/folder/siamfc/{sequence}.txt", delimiter=",") for n in ("one", "two")
        )
        np.testing.assert_allclose(alone, shared, atol=0.1)  # threads may change the last bits of the features


def test_broken_sequences_are_listed_and_the_rest_is_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "data")
    for name in ("missing", "short", "nan", "broken", "text"):
        shutil.copytree(root / "a", root / name)
    truth = (root / "a" / "groundtruth.txt").read_text().splitlines()
    (root / "missing" / "img" / "00000004.jpg").unlink()
    (root / "short" / "groundtruth.txt").write_text("\n".join(truth[:5]))
    (root / "nan" / "groundtruth.txt").write_text("\n".join(["nan,nan,nan,nan", *truth[1:]]))
    (root / "broken" / "img" / "00000003.jpg").write_bytes(b"no image")
    (root / "text" / "groundtruth.txt").write_text("\n".join(["x", *truth[1:]]))
    out = tmp_path / "out"
    assert evaluate("folder", root, out) == 1
    results = summary(out)
    assert set(results["trackers"]["mobile"]["sequences"]) == {"a", "b"}
    errors = dict(results["errors"])
    assert set(errors) == {"missing", "short", "nan", "broken", "text"}
    assert "7 frames, but" in errors["missing"].replace("has 7 frames", "7 frames")
    assert "5" in errors["short"]
    assert "first frame" in errors["nan"]
    assert "cannot be decoded" in errors["broken"]
    assert "line 1" in errors["text"]
    assert capsys.readouterr().err.count("not evaluated:") == 5
    assert "cannot be decoded" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "siamfc:x"], "'x' is not option=value"),
        (["--model", "siamfc:speed=9"], "unknown arguments speed"),
        (["--model", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--peers", "dimp"], "peers: got 'dimp'"),
        (["--model", "../x=siamfc"], "cannot name a folder"),
        (["--frames", "1"], "--frames: got 1"),
        (["--workers", "-2"], "--workers: got -2"),
        (["--model", "siamfc", "--model", "siamfc"], "two have the same label"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_bad_arguments_are_named_in_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "data")
    assert evaluate("folder", root, tmp_path / "out", *words) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_entries_are_parsed() -> None:
    assert parse_entry("guided:guide=off:size_lr=0.3") == Entry(
        "guided", "guided", (("guide", "off"), ("size_lr", 0.3))
    )
    assert parse_entry("x=runs/a.safetensors") == Entry("x", "runs/a.safetensors")
    assert parse_entry("runs/a.safetensors").label == "a"


def test_pooled_scores_average_over_frames(tmp_path: Path) -> None:
    """Two sequences with 3 and 1 scored frames and overlaps 1 and 0: pooled 0.75, by sequence 0.5."""
    root = tmp_path / "data"
    for name, frames in (("long", 4), ("short", 2)):
        folder = root / name
        (folder / "img").mkdir(parents=True)
        for t in range(frames):
            cv2.imwrite(str(folder / "img" / f"{t}.png"), np.zeros((20, 20, 3), np.uint8))
        (folder / "groundtruth.txt").write_text(box_rows(np.tile([2.0, 3, 10, 10], (frames, 1))))
    folder_protocol = PROTOCOLS["folder"]
    sequences = read_dataset(folder_protocol, Subset("all", root), None, lambda path, reason: pytest.fail(reason))
    for sequence in sequences:
        boxes = np.array(sequence.boxes) + (0 if sequence.name == "long" else 100)
        result = Result(boxes, np.full(len(sequence), 0.1))
        write_result(folder_protocol, tmp_path, "t", sequence.name, result)
        back = read_result(folder_protocol, tmp_path, "t", sequence)
        assert back is not None
        np.testing.assert_allclose(back.boxes, boxes)
        assert back.confidences is None
    means = summarize(folder_protocol, tmp_path, Entry("t", "siamfc"), sequences).figures
    assert means["ao"] == pytest.approx(0.5)
    assert means["fps"] == pytest.approx(10)
    pooled = PROTOCOLS["got10k"].__class__("folder", "folder", first_counts=False, pooled=True)
    assert summarize(pooled, tmp_path, Entry("t", "siamfc"), sequences).figures["ao"] == pytest.approx(0.75)


def test_the_worst_moment_is_the_last_loss_of_the_target() -> None:
    truth = np.tile([0.0, 0, 10, 10], (30, 1))
    boxes = truth.copy()
    boxes[4] += 50  # lost for one frame
    boxes[12:] += 50
    run = Run(None, boxes, truth, 1.0, None)  # type: ignore[arg-type]
    assert worst_frame(run) == (12, 0.0)
    boxes[12:] = truth[12:]
    assert worst_frame(run) == (4, 0.0)


def test_normalized_error_is_in_sides_of_the_true_box() -> None:
    truth = [[0, 0, 10, 20], [0, 0, 10, 20], [float("nan")] * 4]
    error = normalized_error([[5, 0, 10, 20], [0, 5, 10, 20], [0, 0, 1, 1]], truth)
    np.testing.assert_allclose(error, [0.5, 0.25, np.nan])


def test_the_report_is_one_self_contained_page(tmp_path: Path) -> None:
    """One file that fetches nothing; headless Chromium shows its plots, its table's marks and its pictures."""
    root, out = make_folder(tmp_path / "data"), tmp_path / "out"
    words = ["--model", "siamfc", "--model", "<b>one</b>=siamfc:scales=1"]
    assert evaluate("folder", root, out, *words[:2], "--model", "one&only=siamfc:scales=1") == 0
    text = (out / "report.html").read_text()
    assert "one&amp;only" in text
    assert "http://" not in text.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert text.count("<svg") == 3
    assert text.count("data:image/jpeg;base64,") == 4
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    shot = tmp_path / "shot.png"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,1600"]
    subprocess.run(
        [*command, f"--screenshot={shot}", (out / "report.html").as_uri()], check=True, capture_output=True, timeout=100
    )
    image = cv2.imread(str(shot)).astype(int)
    assert image.shape == (1600, 1200, 3)
    for name in COLORS[:2]:  # of the two curves and their swatches
        color = [int(name[i : i + 2], 16) for i in (5, 3, 1)]  # BGR
        pixels = (np.abs(image - color).max(2) < 12).sum(1)
        rows = np.flatnonzero(pixels)
        assert len(rows) > 20
        assert np.ptp(rows) > 150  # in the table above and in the plots below it
    assert (np.abs(image - 255).max(2) < 5).mean() > 0.5  # a page, mostly white
    pictures = image[900:].std(axis=(0, 1)).mean()
    assert pictures > 15
