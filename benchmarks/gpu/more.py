"""A second call's sections: training steps, peers under torch.compile, the choices of the autotuner."""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Iterator

import torch

from benchmarks import bench_xcorr
from benchmarks.gpu import timing
from benchmarks.gpu.clock import microseconds
from benchmarks.gpu.schedule import Row
from benchmarks.gpu.tasks import Setting, Task

MOST = 90.0  # seconds of a task: compilations, and a short training


def training(setting: Setting) -> Iterator[Task]:
    for case in timing.suite("training", setting.small):
        yield Task(case.group, functools.partial(timing.timed, case, setting, graphs=False), MOST)


def compiled(setting: Setting) -> Iterator[Task]:
    """torch.compile takes some ten seconds per case: the first case of each op and pass, then the rest."""
    cases = [case for case in timing.ordered_cases(setting.small) if case.compilable]
    kinds: set[tuple[str, str]] = set()
    first, rest = [], []
    for case in cases:
        (rest if (case.op, case.direction) in kinds else first).append(case)
        kinds.add((case.op, case.direction))
    for case in first[:1] if setting.small else (*first, *rest):
        yield Task(case.group, functools.partial(timing.timed, case, setting, compiled=True), MOST)


def tuning(setting: Setting) -> Iterator[Task]:
    """The tuner's choice for the full correlations, beside the configuration that runs without it."""
    shapes = [shape for shape in bench_xcorr.SHAPES if shape.kind != "depthwise"]
    for shape in shapes[:1] if setting.small else shapes:
        yield Task(shape.name, functools.partial(tuned, shape, setting), MOST)


def tuned(shape: bench_xcorr.Shape, setting: Setting) -> Row:
    from siamfast.kernels import tuning as tuner

    z, x, _ = bench_xcorr.inputs(shape, setting.device)
    call = functools.partial(bench_xcorr.ours(shape), z, x)
    default = microseconds(call, setting.device)
    before = {name: os.environ.get(name) for name in ("SIAMFAST_TUNE", "SIAMFAST_CACHE")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"SIAMFAST_TUNE": "1", "SIAMFAST_CACHE": folder}
        tuner.cache_file.cache_clear()
        try:
            call()
            best = microseconds(call, setting.device)
            winners = tuner.cache_file(torch.device("cuda", torch.cuda.current_device()))
            chosen = json.loads(winners.read_text()) if winners.exists() else {}
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
            tuner.cache_file.cache_clear()
    return {"case": shape.name, "default_us": default, "tuned_us": best, "winner": chosen}
