"""Runs the sections' tasks one after another; every row is written at once, every exception becomes a row.

Started by supervisor.py; by itself as `python -m benchmarks.gpu.worker` under compute-sanitizer (tools.py).
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks.gpu.schedule import BUDGETS, GRACE, LISTING, MORE, SECONDS, Progress, Row, append, reason, scaled
from benchmarks.gpu.supervisor import LOST_DEVICE
from benchmarks.gpu.tasks import Section, Setting, Task

# section -> module of this package that has a function of the same name
HOMES = {
    "versions": "machine",
    "extension": "extension",
    "warm": "warm",
    "smoke": "values",
    "races": "races",
    "values": "values",
    "sanitizer": "tools",
    "speeds": "machine",
    "ops": "timing",
    "fused": "timing",
    "host": "host",
    "ncu": "tools",
    "tracking": "timing",
    "tuning": "tuning",
    "training": "more",
    "compiled": "more",
}
LAST_SECONDS = 5.0  # no task starts this close to the end of the run
LEAST_SECONDS = 10.0  # allowed for a task that starts just before its section's end
MOST_LISTING = 60.0  # to import a section's module and list its tasks, which takes a few seconds


class Worker:
    """One process's part of a run.

    sections: name -> a function that lists its tasks. budgets: seconds of each. until: the run's end, of
    time.monotonic().
    lost: whether the device can no longer be used. first: the number of tasks of each section; None: all.
    """

    def __init__(
        self,
        sections: dict[str, Section],
        budgets: dict[str, float],
        setting: Setting,
        progress: Progress,
        until: float,
        about: Callable[[], Row],
        lost: Callable[[], bool],
        first: int | None = None,
    ) -> None:
        self.sections, self.budgets, self.setting, self.progress = sections, budgets, setting, progress
        self.until, self.about, self.lost, self.first = until, about, lost, first
        self.started = time.monotonic()

    def run(self) -> None:
        waiting = {name: self._section(name) for name in self.sections}
        # Time is left: what the sections had to leave out, in their order, and no more bounds than the run's.
        for name, tasks in waiting.items():
            for number, task in enumerate(tasks):
                if self._over(self.until):
                    waiting[name] = tasks[number:]
                    break
                self._task(name, task, self.until)
            else:
                waiting[name] = []
        left = {name: [task.name for task in tasks] for name, tasks in waiting.items() if tasks}
        self._write({"section": "end", "task": "left out", "left_out": left})
        self.progress.note("finished")

    def _over(self, end: float) -> bool:
        return time.monotonic() > min(end, self.until - LAST_SECONDS)

    def _section(self, name: str) -> list[Task]:
        """Run the tasks that the section's time allows; returns the others."""
        self.progress.note("section", name)
        if name in self.progress.unlisted:  # an earlier process failed at it, and there is a row of that
            return []
        end = self.progress.began[name] + self.budgets[name]
        tasks: list[Task] = []
        limit = time.monotonic() + MOST_LISTING
        self._guarded(name, LISTING, limit, lambda: tasks.extend(self.sections[name](self.setting)))
        if name in self.progress.unlisted:
            return []
        tasks = [task for task in tasks[: self.first] if (name, task.name) not in self.progress.tasks]
        while tasks and not self._over(end):
            self._task(name, tasks.pop(0), end)
        if tasks and name not in self.progress.listed:
            cause = "the run's time is over" if self._over(self.until) else f"its {self.budgets[name]:.0f} s are over"
            self._write({"section": name, "task": "left out", "left_out": [t.name for t in tasks], "reason": cause})
            self.progress.note("left out", name)
        return tasks

    def _task(self, section: str, task: Task, end: float) -> None:
        began = time.monotonic()
        end = max(end, began + LEAST_SECONDS)
        self.setting.left = lambda: min(end, self.until - LAST_SECONDS) - time.monotonic()

        def run() -> None:
            rows = task.run()
            for row in [rows] if isinstance(rows, dict) else rows or ():
                self._write({"section": section, "task": task.name, "task_seconds": time.monotonic() - began} | row)

        self._guarded(section, task.name, min(began + task.most, end + GRACE), run)

    def _guarded(self, section: str, task: str, limit: float, run: Callable[[], None]) -> None:
        """Run it until `limit`, when the supervisor ends this process; an exception becomes a row."""
        self.progress.note("task", section, task=task, until=min(limit, self.until))
        try:
            run()
        except (Exception, SystemExit) as error:
            self.failed(section, task, error)
            lost = self.lost()  # may hang, and is this task's
            self.progress.note("done", section)
            if lost:
                sys.stdout.flush()
                os._exit(LOST_DEVICE)  # the CUDA context's own end may hang
        else:
            self.progress.note("done", section, task=task)

    def failed(self, section: str, task: str, error: BaseException) -> None:
        trace = "".join(traceback.format_exception(error))[-1500:]
        self._write({"section": section, "task": task, "ok": False, "error": reason(error), "trace": trace})

    def _write(self, row: Row) -> None:
        row = {"seconds": round(time.monotonic() - self.started, 2)} | row
        if "task_seconds" in row:
            row["task_seconds"] = round(row["task_seconds"], 3)
        try:
            about = self.about()
        except Exception as error:  # not even the device's name
            about = {"about": reason(error)}
        append(about | row | about, self.setting.rows)  # a row may have its own "commit"
        kept = {k: v for k, v in row.items() if k not in ("seconds", "section", "task", "task_seconds", "trace")}
        print(f"{row['seconds']:6.1f} {row['section']}, {row['task']}: {json.dumps(kept)[:300]}", flush=True)


def sections_of(names: list[str]) -> dict[str, Section]:
    """Modules load when their section begins: one that does not costs its own sections alone."""

    def section(name: str) -> Section:
        return lambda setting: getattr(importlib.import_module(f"benchmarks.gpu.{HOMES[name]}"), name)(setting)

    return {name: section(name) for name in names}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", default="gpu.jsonl", help="the file in --out that rows are appended to")
    parser.add_argument("--only", action="append", choices=HOMES)
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--commit")
    parser.add_argument("--began", type=float, default=None, help="of time.monotonic()")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--first", type=int, help="run only so many tasks of each section")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    began = time.monotonic() if options.began is None else options.began
    import torch

    from benchmarks import harness
    from benchmarks.gpu import checkout, rehearsal

    checkout.use_checkout()
    if options.rehearse:
        rehearsal.replace_cuda()
    device = "cpu" if options.rehearse else "cuda"
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True  # for peers and our ops
    given = {"commit": options.commit} if options.commit else {}
    budgets = scaled(MORE if options.more else BUDGETS, options.seconds)
    if options.only:
        budgets = {name: seconds for name, seconds in (BUDGETS | MORE).items() if name in options.only}
    setting = Setting(options.out, options.out / options.rows, device, options.rehearse, options.rehearse)
    progress = Progress.read(setting.rows.with_suffix(".progress.jsonl"))
    worker = Worker(
        sections_of(list(budgets)),
        budgets,
        setting,
        progress,
        began + options.seconds,
        lambda: harness.about(device) | given,
        lambda: lost(device),
        options.first,
    )
    worker.started = began
    if device == "cuda" and not torch.cuda.is_available():
        worker.lost = lambda: False
        worker.failed("versions", "device", RuntimeError("PyTorch sees no CUDA device; --rehearse needs none"))
        worker.sections = sections_of(["versions"])
    worker.run()
    return 0


def lost(device: str) -> bool:
    """Whether an error has left the GPU unusable for this process; where it has not, its memory is given back."""
    import torch

    if device != "cuda":
        return False
    try:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
        return float(torch.ones(8, device=device).sum()) != 8
    except Exception:
        return True


if __name__ == "__main__":
    sys.exit(main())
