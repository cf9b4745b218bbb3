"""A second call's sections: training steps, and peers under torch.compile."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from benchmarks.gpu import timing
from benchmarks.gpu.tasks import Setting, Task

MOST = 90.0  # seconds of a task: compilations, and a short training
BUSY = 4 * MOST  # in a rehearsal: a training on the CPU, beside other tests


def _most(setting: Setting) -> float:
    return BUSY if setting.rehearse else MOST


def training(setting: Setting) -> Iterator[Task]:
    for case in timing.suite("training", setting.small):
        yield Task(case.group, functools.partial(timing.timed, case, setting, graphs=False), _most(setting))


def compiled(setting: Setting) -> Iterator[Task]:
    """torch.compile takes some ten seconds per case: the first case of each op and pass, then the rest."""
    cases = [case for case in timing.ordered_cases(setting.small) if case.compilable]
    kinds: set[tuple[str, str]] = set()
    first, rest = [], []
    for case in cases:
        (rest if (case.op, case.direction) in kinds else first).append(case)
        kinds.add((case.op, case.direction))
    for case in first[:1] if setting.small else (*first, *rest):
        yield Task(case.group, functools.partial(timing.timed, case, setting, compiled=True), _most(setting))
