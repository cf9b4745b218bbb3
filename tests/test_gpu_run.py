"""The one command for a GPU runs to its end at tiny sizes, so that a GPU's first minute does not find a typo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
ROOT = Path(__file__).parents[1]


def test_every_section_leaves_rows(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", tmp_path, "--tiny"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=ROOT, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    sections = ["values", "sanitizer", "speeds", "ops", "end to end", "tuning"]
    assert list(dict.fromkeys(row["section"] for row in rows)) == sections
    checked = [row for row in rows if row["section"] == "values"]
    assert {row["op"].split()[0] for row in checked} == {
        "augment",
        "xcorr",
        "balanced_logistic_loss",
        "crop_and_resize",
        "correspondence_warp",
    }
    assert all(row["ok"] for row in checked)
    timed = {row["op"] for row in rows if row["section"] in ("ops", "end to end")}
    ops = {"balanced_logistic_loss", "xcorr_balanced_loss", "correspondence_warp", "crop_and_resize", "augment"}
    assert timed == {*ops, "xcorr full", "xcorr depthwise", "tracking", "training"}
    assert all(row["contenders"]["siamfast"]["p50_us"] > 0 for row in rows if "contenders" in row)
