"""The sections that time: every op beside its peers, the fused head and loss beside two ops, tracking."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks import harness
from benchmarks.gpu import extension
from benchmarks.gpu.clock import graph_microseconds, microseconds
from benchmarks.gpu.schedule import Row, reason
from benchmarks.gpu.tasks import Setting, Task, round_robin
from benchmarks.harness import OURS, Case
from siamfast import ops

MOST = 90.0  # seconds of a tracking case: its video is made on the CPU
_BENCHES = Path(__file__).parents[1].glob("bench_*.py")
_OPS = {path.parent.name for path in Path(ops.__file__).parent.glob("*/__init__.py")}
SUITES = sorted(_OPS & {path.stem.removeprefix("bench_") for path in _BENCHES})


def suite(name: str, tiny: bool) -> list[Case]:
    return list(importlib.import_module(f"benchmarks.bench_{name}").cases(tiny))


def loaded(tiny: bool) -> tuple[list[Case], dict[str, Exception]]:
    """The cases of the suites that load, and the reasons of the others; tiny: also those that `--quick` adds."""
    cases, broken = [], {}
    for name in SUITES:
        try:
            cases += suite(name, False) + (suite(name, True) if tiny else [])
        except Exception as error:
            broken[name] = error
    return cases, broken


def ordered_cases(tiny: bool) -> list[Case]:
    """One case of each op, then the rest; in a rehearsal the smallest of each op."""
    groups: dict[str, list[Case]] = {}
    for case in loaded(tiny)[0]:
        groups.setdefault(case.op, []).append(case)
    if tiny:
        return [min(group, key=lambda case: case.bytes or 0) for group in groups.values()]
    return list(round_robin(groups.values()))


def fused_cases(tiny: bool) -> list[Case]:
    from benchmarks.bench_xcorr_balanced_loss import batches

    return list(batches((2,) if tiny else (8, 16, 32, 64, 128)))


def ops(setting: Setting) -> Iterator[Task]:
    for name, error in loaded(setting.small)[1].items():
        yield Task(f"suite {name}", lambda error=error: _raise(error))
    for case in ordered_cases(setting.small):
        yield Task(case.group, lambda case=case: timed(case, setting))


def fused(setting: Setting) -> Iterator[Task]:
    for case in fused_cases(setting.small):
        yield Task(case.group, lambda case=case: timed(case, setting))


def tracking(setting: Setting) -> Iterator[Task]:
    # A GPU's tracker still crops on the CPU: by the C++ extension, which is built by now.
    yield Task("C++ extension", lambda: extension.wait_for_build(setting))
    for case in suite("tracking", setting.small):
        yield Task(case.group, lambda case=case: timed(case, setting, graphs=False), MOST)


def _raise(error: Exception) -> None:
    raise error


def timed(case: Case, setting: Setting, graphs: bool = True, compiled: bool = False) -> Iterator[Row]:
    """One case's row; a contender that fails, or whose values are wrong, is named and not timed."""
    device = setting.device
    if compiled:
        torch._dynamo.reset()
    made = case.make(device, compiled)
    for name in list(made.runs):
        try:
            made.check(name)
            made.runs[name]()
        except Exception as error:
            yield {"case": case.group, "contender": name, "error": reason(error), "ok": name != OURS}
            del made.runs[name]
    if OURS not in made.runs:
        return
    row = harness.measure(case, made, 0.0 if setting.small else 0.05, device)
    for name, run in made.runs.items() if graphs else ():
        row["contenders"][name] |= on_device(run, device)
    yield row


def on_device(run: harness.Run, device: str) -> Row:
    """Microseconds between CUDA events around a call, and of a call in a graph where it can be captured."""
    row: Row = {"device_us": microseconds(run, device)}
    try:
        row["graph_us"] = graph_microseconds(run)
    except Exception as error:  # many peers allocate or synchronise while captured: that is a result too
        row["no_graph"] = reason(error)
        torch.cuda.synchronize()
    return row
