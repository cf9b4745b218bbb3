"""The commands: help, one line and exit code 2 for bad input, output of `info` and `demo`, time of an import."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import siamfast
from siamfast import cli, comparison, machine
from siamfast.cli import main
from siamfast.commands import info
from siamfast.models.siamfc import SiamFC
from siamfast.models.weights import save_weights
from siamfast.ops import dispatch
from tests.interpreter import needs_interpreter


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: siamfast {command}")
    assert re.search(rf"^  siamfast {command}\b", text, re.MULTILINE)  # an example to paste


def test_help_lists_every_command_by_task(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    files = {path.stem for path in Path(info.__file__).parent.glob("*.py")}
    assert {name.replace("-", "_") for name in cli.COMMANDS} <= files
    for name in cli.COMMANDS:
        assert len(re.findall(rf"^  {name} ", text, re.MULTILINE)) == 1
    assert text.index("train:") < text.index("  curate ") < text.index("evaluate:")


def test_the_whole_parser_has_the_options_of_every_command() -> None:
    """What a generator of shell completion reads."""
    words = ["eval", "ROOT", "--dataset", "otb", "--engine", "dask"]
    assert cli.make_parser().parse_args(words).engine == "dask"
    with pytest.raises(SystemExit):
        cli.make_parser("track").parse_args(words)


@pytest.mark.parametrize(
    "words",
    [
        ["track", "nowhere.mp4", "--box", "1,2,3,4"],
        ["track", "nowhere.mp4", "--box", "1,2,3"],
        ["train", "--steps", "0"],
        ["train", "--data", "nowhere", "--out", "OUT"],
        ["demo", "--frames", "1"],
        ["bench", "--seconds", "0"],
        ["bench", "--plot", "bars.txt"],
        ["bench", "--plot", "nowhere/bars.png"],
        ["bench", "--plot", "bars.png", "--static"],
        ["bench", "--only", "warp"],
        ["bench", "--static", "--card", "T4"],
        ["bench", "--static", "--only", "no such kernel"],
        ["track", "FRAMES", "--box", "1,2,0,5"],
        ["track", "FRAMES", "--box", "nan,2,5,5"],
        ["track", "FRAMES", "--box", "900,900,10,10"],
        ["track", "FRAMES"],
        ["export", "nowhere.safetensors"],
        ["cutouts", "nowhere", "OUT/cutouts"],
        ["convert-backbone", "nowhere.pt", "OUT/backbone.safetensors"],
        ["train", "--data", "synthetic", "--photos", "nowhere", "--out", "OUT"],
        ["propagate", "FRAMES", "--mask", "nowhere.png", "--out", "OUT/masks"],
        ["show-correspondence", "nowhere.png", "nowhere.png", "--out", "OUT/figure.png"],
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((40, 60, 3), np.uint8))
    assert main([w.replace("OUT", str(tmp_path)).replace("FRAMES", str(tmp_path)) for w in words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"siamfast {words[0]}: error: ")


def test_bench_prints_and_plots_every_comparison(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "bars.png"
    assert main(["bench", "--seconds", "0.02", "--json", "--plot", str(picture)]) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["bars.png"]
    drawn = cv2.imread(str(picture))
    assert min(drawn.shape[:2]) > 300
    assert drawn.std() > 10
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == [case.name for case in comparison.cases()]
    assert all(row["ours_ms"] > 0 and row["peer_ms"] > 0 for row in rows)


@needs_interpreter
def test_bench_static_prints_a_kernel_on_every_card_and_the_backend_of_a_t4(capsys: pytest.CaptureFixture[str]) -> None:
    table = pytest.importorskip("siamfast.kernels.table")
    words = ["bench", "--static", "--only", "balanced_logistic_loss, shared, fp32"]
    assert main(words) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == table.HEADER
    assert all(line.startswith("balanced_logistic_loss, shared, fp32") for line in lines[: len(table.CARDS)])
    assert lines[len(table.CARDS) :][0].startswith("T4 (sm_75), V100 (sm_70): plain PyTorch serves them")
    assert main([*words, "--card", "A100", "--json"]) == 0
    (row,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (row["card"], row["chip"], row["measured_us"]) == ("A100", "sm_80", None)
    assert row["predicted_us"] >= row["floor_us"] > 0
    assert row["of_floor"] == pytest.approx(row["floor_us"] / row["predicted_us"], abs=1e-3)


def test_an_unknown_command_is_an_error() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fly"])
    assert stop.value.code == 2


@pytest.mark.parametrize("words", [["track", "a.mp4"], ["annotate", "a.mp4"], ["vot"]])
def test_weights_given_as_a_model_are_sent_to_weights(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--model", "runs/mine.safetensors"])
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "--model: got 'runs/mine.safetensors', expected one of mobile, siamfc, guided" in line
    assert line.endswith("give a file of weights to --weights")


def test_info_names_versions_ops_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for word in ("torch ", "crop_and_resize", "correspondence_warp", "cpu: ", "cuda", "SIMD path", "onnxscript"):
        assert word in text
    assert ("(cuda)" in text) == (not torch.cuda.is_available())
    served = {tuple(line.split()[:2]): line.split()[2] for line in text.splitlines() if line.count("reference")}
    assert {op for op, _ in served} == set(siamfast.ops.OPS) | {
        "xcorr_depthwise",
        "xcorr_pixelwise",
        "xcorr_balanced_loss",
    }
    assert (served["xcorr_depthwise", "cpu"], served["xcorr_pixelwise", "cpu"]) == (served["xcorr", "cpu"], "torch")
    assert "cannot run" not in text  # C++ kernels never take CUDA tensors, so that is nothing to fix


@pytest.mark.parametrize(
    ("flags", "name"),
    [("sse2 avx", "A"), ("avx avx2", "A (AVX2)"), ("avx2 avx512f avx512_bf16", "A (AVX-512, BF16)")],
)
def test_a_cpu_is_named_with_its_widest_vectors(flags: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = f"processor\t: 0\nmodel name\t: A\nflags\t\t: {flags}\n\n"
    monkeypatch.setattr(machine, "open", lambda path: io.StringIO(told), raising=False)
    assert machine.cpu_name() == name


def test_info_names_each_fixable_problem_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "extension", lambda: (None, "siamfast._C is not built"))
    assert main(["info"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "cannot run" in line)
    assert "siamfast._C is not built" in line
    assert line.startswith("cpu: ")
    assert line.endswith("(xcorr, balanced_logistic_loss, correspondence_warp, crop_and_resize, augment)")


def test_info_says_what_is_forced(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_of_environment", "torch")
    assert main(["info"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("SIAMFAST_BACKEND=torch is set")
    monkeypatch.setattr(dispatch, "_of_environment", "nope")
    assert main(["info"]) == 2
    assert "SIAMFAST_BACKEND: got 'nope', expected one of triton" in capsys.readouterr().err


def test_dir_of_the_package_lists_its_public_names() -> None:
    assert set(siamfast.__all__) <= set(dir(siamfast))


def test_compat_and_nn_need_no_import_of_their_own() -> None:
    code = "import siamfast; siamfast.compat.accelerate; siamfast.nn.XCorr; siamfast.nope"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1] == "AttributeError: module 'siamfast' has no attribute 'nope'"


@pytest.mark.parametrize("box", ["-5,40,30,30", "-5.5,-4,30,30"])
def test_a_box_may_start_left_of_the_image(box: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for t in range(2):
        cv2.imwrite(str(tmp_path / f"{t}.png"), np.zeros((80, 90, 3), np.uint8))
    assert main(["track", str(tmp_path), "--box", box, "--model", "siamfc"]) == 0
    first = capsys.readouterr().out.splitlines()[1]
    assert first.startswith("0," + ",".join(f"{float(word):.2f}" for word in box.split(",")))


def test_a_closed_output_pipe_ends_a_command_quietly() -> None:
    """As in `siamfast info | head -1`, but with no reader at all."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "siamfast.cli", "info"]
    ran = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ran.stderr, ran.returncode) == ("", 141)


def test_demo_writes_its_pictures_and_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "random.safetensors"
    save_weights(SiamFC(), weights, recipe="random")
    monkeypatch.setattr(comparison, "cases", lambda: comparison_cases()[:1])
    out = tmp_path / "demo"
    assert main(["demo", "--frames", "4", "--out", str(out), "--weights", str(weights)]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["contact-sheet.png", "overlap.png", "track.mp4"]
    text = capsys.readouterr().out
    assert "mean overlap" in text
    assert "frames/s" in text
    assert "grouped conv2d" in text


comparison_cases = comparison.cases


def test_every_comparison_equals_its_peer() -> None:
    for case in comparison.cases():
        row = comparison.compare(case, seconds=0.0)
        assert row.ours_ms > 0
        assert row.peer_ms > 0


def test_a_comparison_with_different_values_reports_no_time() -> None:
    case = comparison.Case("op", "peer", lambda: torch.ones(2), lambda: torch.zeros(2), 1e-3)
    with pytest.raises(ValueError, match="op: differs from peer"):
        comparison.compare(case)


def test_ctrl_c_ends_quietly_while_pytorch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-c", "import siamfast_command; siamfast_command.main()", "info"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "importing\n"
        run.send_signal(signal.SIGINT)
        assert run.communicate()[1] == ""
    assert run.returncode == -signal.SIGINT


IMPORT = """
import sys, time, torch
began = time.perf_counter()
import siamfast
print(time.perf_counter() - began)
heavy = {"cv2", "matplotlib", "triton", "torch._dynamo", "safetensors", "tqdm"} & set(sys.modules) - set(BEFORE)
assert not torch.cuda.is_initialized()
assert not heavy, heavy
"""


def test_importing_is_quick_and_light() -> None:
    """Over torch's own import below 0.3 s on a quiet machine, three times that on a slow or busy one, without what only
    some users need."""
    code = "import sys, torch; BEFORE = list(sys.modules)\n" + IMPORT
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert statistics.median(float(run.stdout) for run in runs) < 0.9


def test_info_warns_of_two_opencv_packages_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    have = {"opencv-python-headless": "5.0.0", "opencv-contrib-python": "5.0.0"}
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: have.get(name) or real(name))
    assert info.versions()[-1].startswith("OpenCV is installed 2 times")
    assert "pip uninstall -y opencv-python-headless opencv-contrib-python" in info.versions()[-1]
    del have["opencv-contrib-python"]
    assert not any("times" in line for line in info.versions())
