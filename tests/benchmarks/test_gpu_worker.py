"""A section or task that raises, crashes, hangs or runs out of time costs no other its rows."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import extension, tools
from benchmarks.gpu import worker as module
from benchmarks.gpu.schedule import Progress, Row, append
from benchmarks.gpu.supervisor import supervise
from benchmarks.gpu.tasks import Section, Setting, Task, round_robin
from benchmarks.gpu.worker import Worker

ROOT = Path(__file__).parents[2]


def fails() -> Row:
    raise ZeroDivisionError("no such luck\nand more")


def section(*tasks: Task) -> Section:
    return lambda setting: iter(tasks)


def cannot_be_listed(setting: Setting) -> Iterator[Task]:
    raise ImportError("no module")


def run_sections(
    folder: Path, sections: dict[str, Section], seconds: float = 60.0, each: float = 60.0
) -> list[dict[str, Any]]:
    """The rows of a run; `each`: seconds per section."""
    setting = Setting(folder, folder / "gpu.jsonl", "cpu")
    worker = Worker(
        sections,
        dict.fromkeys(sections, each),
        setting,
        Progress.read(folder / "progress"),
        time.monotonic() + seconds,
        lambda: {"device": "none"},
        lambda: False,
    )
    worker.run()
    return [json.loads(line) for line in setting.rows.read_text().splitlines()]


def test_an_exception_is_a_one_line_row_and_the_next_task_runs(tmp_path: Path) -> None:
    good = Task("good", lambda: {"value": 1})
    rows = run_sections(
        tmp_path,
        {"first": section(Task("bad", fails), good), "broken": cannot_be_listed, "last": section(good)},
    )
    assert [(row["section"], row["task"]) for row in rows] == [
        ("first", "bad"),
        ("first", "good"),
        ("broken", "list of tasks"),
        ("last", "good"),
        ("end", "left out"),
    ]
    assert rows[0]["error"] == "ZeroDivisionError: no such luck"
    assert not rows[0]["ok"]
    assert rows[1]["value"] == 1
    assert rows[-1]["left_out"] == {}


def test_rows_before_a_failure_are_written(tmp_path: Path) -> None:
    def rows_until_failure() -> Iterator[Row]:
        yield {"value": 1}
        fails()

    rows = run_sections(tmp_path, {"one": section(Task("task", rows_until_failure))})
    assert [row.get("value") for row in rows] == [1, None, None]


def test_tasks_left_out_of_a_section_are_named_and_run_at_the_end(tmp_path: Path) -> None:
    slow = [Task(str(n), lambda: time.sleep(0.15) or {}) for n in range(3)]
    rows = run_sections(tmp_path, {"slow": section(*slow), "next": section(Task("quick", dict))}, each=0.1)
    assert [(row["section"], row["task"]) for row in rows] == [
        ("slow", "0"),
        ("slow", "left out"),
        ("next", "quick"),
        ("slow", "1"),
        ("slow", "2"),
        ("end", "left out"),
    ]
    assert rows[1]["left_out"] == ["1", "2"]


def test_tasks_left_out_of_the_run_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_SECONDS", 0.0)
    slow = [Task(str(n), lambda: time.sleep(0.2) or {}) for n in range(3)]
    rows = run_sections(tmp_path, {"slow": section(*slow)}, seconds=0.1)
    assert [row["task"] for row in rows] == ["0", "left out", "left out"]
    assert rows[-1]["left_out"] == {"slow": ["1", "2"]}


def test_groups_take_turns() -> None:
    assert list(round_robin([[1, 2, 3], [], [4], [5, None]])) == [1, 4, 5, 2, None, 3]


CRASHING = """
import os, pathlib, signal, sys, time
from benchmarks.gpu import worker
from benchmarks.gpu.schedule import Progress
from benchmarks.gpu.tasks import Setting, Task

worker.GRACE, worker.LEAST_SECONDS, worker.MOST_LISTING = 0.2, 0.2, 1.0
folder, lost, stuck = pathlib.Path(sys.argv[1]), [], []
crashed = folder / "crashed"

def is_lost():
    time.sleep(100 if stuck else 0)
    return bool(lost)

def sticks():
    stuck.append(True)
    raise RuntimeError("CUDA error: unspecified launch failure")

def is_killed():
    crashed.touch()
    os.kill(os.getpid(), signal.SIGKILL)

def loses():
    lost.append(True)
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

def tasks(setting):
    yield Task("good", lambda: {"value": 1})
    yield Task("killed", is_killed)
    yield Task("sticks", sticks, 1.0)
    yield Task("loses the device", loses)
    yield Task("hangs", lambda: time.sleep(100), 1.0)
    yield Task("last", lambda: {"value": 2})

def ends(setting):  # as a module does that cannot be loaded
    os._exit(3)

def leaves(setting):
    raise SystemExit("no such tool")

def sleeps(setting):
    time.sleep(100)

def finds_no_device(setting):
    loses()

def once(setting):
    return [] if not crashed.exists() else os._exit(4)

sections = {"once": once, "and once": once, "ends": ends, "leaves": leaves, "sleeps": sleeps, "loses": finds_no_device}
sections["one"] = tasks
setting = Setting(folder, folder / "gpu.jsonl", "cpu")
worker.Worker(sections, dict.fromkeys(sections, 5.0), setting, Progress.read(folder / "progress"),
              time.monotonic() + 60, dict, is_lost).run()
"""


def test_another_process_continues_after_the_task_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)
    script = tmp_path / "crashing.py"
    script.write_text(CRASHING)
    rows = tmp_path / "gpu.jsonl"
    command = [sys.executable, str(script), str(tmp_path)]
    log, until = tmp_path / "worker.log", time.monotonic() + 60
    supervise(command, tmp_path / "progress", log, until, lambda row: append(row, rows))
    made = [json.loads(line) for line in rows.read_text().splitlines()]
    by_task = {row["task"]: row for row in made}
    assert "SIGKILL" in by_task["killed"]["error"]
    assert "illegal memory access" in by_task["loses the device"]["error"]
    assert "still running" in by_task["hangs"]["error"]
    sticks = [row["error"] for row in made if row["task"] == "sticks"]  # and its device never answers
    assert ["unspecified launch failure" in sticks[0], "still running" in sticks[1]] == [True, True]
    assert by_task["last"]["value"] == 2
    lists = {row["section"]: row["error"] for row in made if row["task"] == "list of tasks"}
    assert set(lists) == {"once", "and once", "ends", "leaves", "sleeps", "loses"}
    for name, code in (("ends", 3), ("once", 4), ("and once", 4)):
        assert f"the worker ended with code {code}" in lists[name]
    assert lists["leaves"] == "SystemExit: no such tool"
    assert "still running" in lists["sleeps"]
    assert "illegal memory access" in lists["loses"]
    # Lists and tasks: each once, but that which hung behind its error.
    assert len([row for row in made if row["task"] != "left out"]) == 6 + 6 + 1


def test_a_worker_that_cannot_start_is_not_restarted_forever(tmp_path: Path) -> None:
    rows: list[Row] = []
    command = [sys.executable, "-c", "raise SystemExit('no PyTorch here')"]
    supervise(command, tmp_path / "progress", tmp_path / "worker.log", time.monotonic() + 60, rows.append)
    assert [row["error"] for row in rows] == ["the worker ended with code 1: no PyTorch here"] * 2


def test_pybind11s_headers_may_come_from_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pybind11" else find_spec(name))
    assert (Path(extension.includes()[-1]) / "pybind11" / "pybind11.h").exists()


def test_slowest_takes_the_furthest_above_its_floor_of_each_kind() -> None:
    def row(op: str, device_us: float, floor_us: float, section: str = "ops", **more: float) -> Row:
        ours = {"device_us": device_us} | more
        return {"section": section, "op": op, "pass": "forward", "floor_us": floor_us, "contenders": {"siamfast": ours}}

    rows = [row("a", 10, 9), row("a", 30, 5), row("b", 12, 2), row("c", 90, 1, "fused"), {"section": "smoke"}]
    assert tools.slowest(rows) == [rows[1], rows[2]]
    waited_for_the_host = row("d", 900, 1, graph_us=15)
    assert tools.slowest([*rows, waited_for_the_host]) == [rows[1], waited_for_the_host, rows[2]]
