"""The estimates of docs/scale.md are bounded by the right part of the machinery."""

from __future__ import annotations

import pytest

from benchmarks import scale
from benchmarks.scale import Work, limits

RATES = {
    "vid": {"targets": 1, "frames_per_second": 100.0, "read_kb": 1, "written_kb": 1, "taken_frames_per_second": 1000},
    "eval": {"update_ms": 6.0, "read_ms": 4.0},
    "task_ms": 2.0,
}


def test_curation_is_bounded_by_cores_then_by_the_command() -> None:
    work = Work("w", "vid", videos=100, frames=64_000, gigabytes=3)
    assert limits(work, RATES, 4) == pytest.approx(
        {
            "cores": 160,
            "the command, which takes and writes the results": 64,
            "the file server": 3,
            "the scheduler": 1100 * 0.002,  # a task per 64 frames, and one more for each video's rest
            "the longest video": 0,
        }
    )


def test_evaluation_is_bounded_by_cores_then_by_the_longest_video() -> None:
    work = Work("w", "eval", videos=10, frames=10_000, gigabytes=1, longest=4_000)
    bounds = limits(work, RATES, 10)
    assert bounds["cores"] == pytest.approx(10)
    assert bounds["the longest video"] == pytest.approx(40)
    assert bounds["the scheduler"] == pytest.approx(0.02)


def test_the_table_names_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "WORKS", (Work("w", "eval", 10, 10_000, 1, 4_000),))
    rates = RATES | {"got10k": RATES["vid"], "device": "a CPU", "date": "today"}
    last = scale.tables(rates).splitlines()[-1]
    assert last == "| w | 2 min | 40 s | 40 s | 2 | the longest video, 40 s |"
