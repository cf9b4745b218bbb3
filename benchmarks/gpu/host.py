"""The section of what calls cost the host: on a GPU small sizes take as long as Python needs to launch them."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
from collections.abc import Iterator

import torch

from benchmarks.gpu.schedule import Row
from benchmarks.gpu.tasks import Setting, Task
from benchmarks.gpu.timing import ordered_cases
from benchmarks.harness import OURS, Case, Run

CALLS, AT_ONCE = 200, 20  # the device's queue holds some thousand launches; a full one makes the host wait
DEAREST = 10  # functions of a profile


def host(setting: Setting) -> Iterator[Task]:
    """The smallest case of each op and pass."""
    smallest: dict[tuple[str, str], Case] = {}
    for case in ordered_cases(setting.small):
        key = case.op, case.direction
        if key not in smallest or (case.bytes or 0) < (smallest[key].bytes or 0):
            smallest[key] = case
    for case in smallest.values():
        yield Task(case.group, lambda case=case: of_host(case, setting))


def of_host(case: Case, setting: Setting) -> Row:
    """Microseconds until a call returns, of ours and the peers; those of a backward pass also in the calling thread,
    where autograd has no thread of its own to wake; and where our call's time goes."""
    made = case.make(setting.device, False)
    count = 4 if setting.small else CALLS
    row: Row = {"op": case.op, "case": case.name, "pass": case.direction, "host_us": {}, "one_thread_us": {}}
    for name, run in made.runs.items():
        row["host_us"][name] = until_return(run, count)
        if "backward" in case.direction:
            with torch.autograd.set_multithreading_enabled(False):
                row["one_thread_us"][name] = until_return(run, count)
    with torch.autograd.set_multithreading_enabled(False):
        return row | {"dearest": dearest(made.runs[OURS], count)}


def until_return(run: Run, count: int) -> float:
    taken = []
    for number in range(count + 5):
        if number % AT_ONCE == 0:
            torch.cuda.synchronize()
        begin = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begin)
    torch.cuda.synchronize()
    return round(1e6 * statistics.median(taken[5:]), 1)


def dearest(run: Run, count: int) -> list[tuple[str, float]]:
    """The functions that take most by themselves, in microseconds of a call; the profile itself adds some."""
    profile = cProfile.Profile()
    with profile:
        for _ in range(count):
            run()
    torch.cuda.synchronize()
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    most = sorted(stats.items(), key=lambda item: -item[1][2])[:DEAREST]
    return [
        (f"{file.rpartition('/')[2]}:{line} {name}", round(1e6 * s[2] / count, 1)) for (file, line, name), s in most
    ]
