"""The GPU command runs through all its sections on a CPU, so that no time on a GPU is lost to a typo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

from benchmarks.gpu import tools
from benchmarks.gpu.schedule import BUDGETS, MORE, SECONDS
from tests.interpreter import needs_interpreter

pytestmark = [pytest.mark.timeout(1000), needs_interpreter]

ROOT = Path(__file__).parents[2]
Rows = list[dict[str, Any]]


def rehearse(out: Path, *options: str) -> Path:
    """The folder with the rows and reports of a rehearsal."""
    # Three times a GPU machine's seconds: a slow or busy CPU leaves no section out.
    seconds = str(3 * SECONDS)
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", out, "--rehearse", "--commit", "abc", *options]
    command += ["--seconds", seconds]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=ROOT, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + (out / "worker.log").read_text()[-2000:]
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rehearse(tmp_path_factory.mktemp("rehearsal"))


@pytest.fixture
def rows(folder: Path) -> Rows:
    return read(folder)


def read(folder: Path) -> Rows:
    return [json.loads(line) for line in (folder / "gpu.jsonl").read_text().splitlines()]


def of(rows: Rows, section: str) -> Rows:
    return [row for row in rows if row["section"] == section]


def test_the_sections_write_rows_in_order(rows: Rows) -> None:
    assert list(dict.fromkeys(row["section"] for row in rows)) == [*BUDGETS, "end"]
    assert sum(BUDGETS.values()) <= SECONDS
    assert all(row["ok"] for row in rows if "ok" in row)
    assert rows[-1]["left_out"] == {}
    assert all(row["commit"] == "abc" and "torch" in row and "seconds" in row for row in rows)


def test_every_kernel_is_in_the_smoke_section(rows: Rows) -> None:
    ran = {name for row in of(rows, "smoke") for name in row["kernels"]}
    assert ran == set(tools.our_kernels())


def test_values_take_every_op_in_turn(rows: Rows) -> None:
    ops = [
        "xcorr full",
        "xcorr_balanced_loss",
        "xcorr depthwise",
        "correspondence_warp",
        "balanced_logistic_loss",
        "crop_and_resize",
        "augment",
        "xcorr pixelwise",
    ]
    assert [row["op"] for row in of(rows, "values")] == ops


def test_the_race_test_compares_both_numbers_of_stages(rows: Rows) -> None:
    assert [(row["task"], row["stages"]) for row in of(rows, "races")] == [
        (f"gradients, {of_what}", stages)
        for of_what, several in (("float32", 2), ("bfloat16", 3), ("bfloat16, templates of 1x1", 3))
        for stages in (1, several)
    ]


def test_the_tools_reports_are_kept_in_full(rows: Rows, folder: Path) -> None:
    summary = of(rows, "sanitizer")[-1]
    assert summary["checks"] == len(of(rows, "sanitizer")) - 1 > 0
    assert "ERROR SUMMARY: 0" in (folder / summary["report"]).read_text()
    (profile,) = of(rows, "ncu")
    assert profile["kernels"][0]["Duration [us]"] == 12.5
    assert profile["of"] in (folder / profile["report"]).read_text()


def test_every_op_is_timed_with_and_without_a_graph(rows: Rows) -> None:
    ops = of(rows, "ops")
    kinds = {
        "xcorr full",
        "xcorr depthwise",
        "xcorr pixelwise",
        "balanced_logistic_loss",
        "xcorr_balanced_loss",
        "correspondence_warp",
        "crop_and_resize",
        "augment",
    }
    assert {row["op"] for row in ops} == kinds
    for row in (*ops, *of(rows, "fused")):
        assert all({"device_us", "graph_us"} <= set(figures) for figures in row["contenders"].values())
    assert {row["dtype"] for row in of(rows, "fused")} == {"float32", "bfloat16"}
    built, tracked, several = of(rows, "tracking")
    assert built["built"]
    assert several["case"] == "MultiTracker, 2 targets"
    assert set(several["ms"]) == {"graphs", "plain"}
    assert tracked["contenders"]["siamfast"]["p50_us"] > 0


def test_the_second_call_tunes_trains_and_compiles_peers(tmp_path: Path) -> None:
    rows = read(rehearse(tmp_path, "--more"))
    assert list(dict.fromkeys(row["section"] for row in rows)) == [*MORE, "end"]
    assert not [row["error"] for row in rows if "error" in row]
    assert rows[-1]["left_out"] == {}
    assert {row["choice"] for row in of(rows, "tuning")} == {
        "xcorr.launch.MOST_LOADS",
        "xcorr.launch.PROGRAMS",
        "xcorr.launch_depthwise.FORWARD_ROWS",
        "xcorr.launch_depthwise.FORWARD_COLUMNS",
    }
    (trained,), (compiled,) = of(rows, "training"), of(rows, "compiled")
    assert {"siamfast", "siamfc-pytorch"} <= set(trained["contenders"])
    assert {"siamfast", "compiled"} <= set(compiled["contenders"])
