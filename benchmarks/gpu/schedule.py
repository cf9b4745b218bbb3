"""The order of the sections, the time that each may take, and the file with the progress of a run.

Needs no PyTorch: the process that watches the worker imports this and stays able to write a row whatever breaks.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]

# Seconds of each section, most important first. Together the whole run's, so that each gets its turn; what a section
# does not use goes to what others had to leave out.
BUDGETS = {
    "versions": 10.0,  # installed software, nvidia-smi
    "extension": 2.0,  # starts the C++ build, which goes on in the background
    "warm": 65.0,  # Triton's cache, by parallel compiles
    "smoke": 20.0,  # every kernel once, each by itself
    "races": 20.0,
    "values": 90.0,
    "sanitizer": 40.0,
    "speeds": 10.0,
    "ops": 150.0,
    "fused": 20.0,
    "host": 25.0,
    "ncu": 50.0,
    "tracking": 45.0,
}
# A second call's, on top of the first's first two.
MORE = {"versions": 10.0, "extension": 2.0, "tuning": 200.0, "training": 110.0, "compiled": 230.0}
SECONDS = 560.0  # of a run: a call on a lent machine ends after 600
LISTING = "list of tasks"  # a section's first task: to import its module and list the others
GRACE = 20.0  # a task that is still running so long after its section's end is ended


def scaled(budgets: dict[str, float], seconds: float) -> dict[str, float]:
    """The seconds of each section in a run of `seconds`."""
    return {name: each * seconds / SECONDS for name, each in budgets.items()}


def append(row: Row, file: Path) -> None:
    """Append a line, at once and whole."""
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, (json.dumps(row) + "\n").encode())
    finally:
        os.close(handle)


def reason(error: BaseException) -> str:
    """An exception in one line: its first, and the next where that only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1]) or "no message"
    return f"{type(error).__name__}: {message}"[:300]


@dataclass
class Progress:
    """The progress of a run, from which a restarted worker continues. Times are time.monotonic()'s."""

    file: Path
    began: dict[str, float] = field(default_factory=dict)  # section -> its first task's beginning
    tasks: set[tuple[str, str]] = field(default_factory=set)  # started tasks: none is started twice
    listed: set[str] = field(default_factory=set)  # sections whose left-out tasks are in a row
    unlisted: set[str] = field(default_factory=set)  # sections whose list of tasks was begun and never complete
    running: tuple[str, str, float, float] | None = None  # section, task, since when, until when at most
    finished: bool = False

    @classmethod
    def read(cls, file: Path) -> Progress:
        progress = cls(file)
        if file.exists():
            for line in file.read_text().splitlines():
                try:
                    progress._take(json.loads(line))
                except ValueError:
                    continue  # being written
        return progress

    @property
    def begun(self) -> int:
        """Grows with each process that comes as far as a task, or to a list that ends it."""
        return len(self.tasks) + len(self.unlisted)

    def _take(self, event: Row) -> None:
        kind, section = event["event"], event.get("section", "")
        if kind == "section":
            self.began.setdefault(section, event["at"])
        elif kind == "task":
            self.tasks.add((section, event["task"]))
            if event["task"] == LISTING:
                self.unlisted.add(section)
            self.running = (section, event["task"], event["at"], event["until"])
        elif kind == "done":
            self.running = None
            if event.get("task") == LISTING:
                self.unlisted.discard(section)
        elif kind == "left out":
            self.listed.add(section)
        elif kind == "finished":
            self.finished = True

    def note(self, event: str, section: str = "", **more: Any) -> None:
        row = {"event": event, "section": section, "at": time.monotonic(), **more}
        self._take(row)
        append(row, self.file)
