"""The unit of a run: a task yields rows, and is timed, fails and is left out by itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from benchmarks.gpu.schedule import Row

T = TypeVar("T")


class Task(NamedTuple):
    """name: the same in all runs, because a restarted worker skips tasks that were started. most: seconds after which
    it counts as hanging and its process is ended."""

    name: str
    run: Callable[[], Row | Iterable[Row] | None]
    most: float = 45.0


@dataclass
class Setting:
    """The settings of all sections. device: "cpu" in a rehearsal; small: tiny sizes."""

    out: Path
    rows: Path
    device: str = "cuda"
    small: bool = False
    rehearse: bool = False
    left: Callable[[], float] = lambda: 60.0  # seconds that the section has left


Section = Callable[[Setting], Iterator[Task]]


def round_robin(groups: Iterable[Iterable[T]]) -> Iterator[T]:
    """The first of each group, then the second of each, ...: each op has its turn before one has all of its cases."""
    nothing = object()
    for turn in itertools.zip_longest(*groups, fillvalue=nothing):
        yield from (item for item in turn if item is not nothing)  # type: ignore[misc]
