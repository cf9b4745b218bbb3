"""The sections that time: every op beside its peers, head and loss in one call beside the two ops, tracking."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import siamfast
from benchmarks import harness, targets
from benchmarks.gpu import extension
from benchmarks.gpu.clock import graph_microseconds, kernel_microseconds, microseconds
from benchmarks.gpu.machine import tf32_products
from benchmarks.gpu.schedule import Row, reason
from benchmarks.gpu.tasks import Setting, Task, round_robin
from benchmarks.harness import OURS, Case
from siamfast import ops
from siamfast.data.synthetic import SyntheticVideo

MOST = 90.0  # seconds of a tracking case: its video is made on the CPU
# Pixels, of 64 targets' boxes in the first frame in float32. Weights changed at random by 1e-6 of themselves moved them
# by up to 0.0014 (0.8 in the fourth frame), by 1e-4, as coarse as TF32, up to 0.16, on a CPU.
FIRST_CLOSE = 0.05
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
    for count in (2,) if setting.small else targets.COUNTS:
        yield Task(f"MultiTracker, {count} targets", lambda count=count: several(count, setting), MOST)


def several(count: int, setting: Setting) -> Iterator[Row]:
    """Milliseconds a frame of a MultiTracker with its CUDA graphs and without, in turn, without the first frames, which
    compile and capture; and how far apart their boxes are in float32 without TF32, in the first frame and at most in
    four: a graph's batches are others, whose sums differ in the last digits, and so do the crops of the next frame,
    which are rounded to 8 bits."""
    length = 4 if setting.small else 24
    video = SyntheticVideo(targets.SEED, length=length, size=targets.SIZE)
    boxes = targets.boxes_of(video, count)
    with tf32_products(False):
        tracked = [found for found, _ in in_turn(video, boxes, min(5, length), setting.device, "float32")]
    apart = [
        max(float(np.abs(np.subtract(found["graphs"][n].box, found["plain"][n].box)).max()) for n in boxes)
        for found in tracked[1:]
    ]
    taken = [times for _, times in in_turn(video, boxes, length, setting.device, "auto")][length // 3 :]
    yield {
        "case": f"MultiTracker, {count} targets",
        "ms": {name: round(1e3 * statistics.median(times[name] for times in taken), 3) for name in taken[0]},
        "first_difference_px": round(apart[0], 4),
        "largest_difference_px": round(max(apart), 4),
        "ok": apart[0] < FIRST_CLOSE,
    }


def in_turn(
    video: SyntheticVideo, boxes: dict[int, Any], length: int, device: str, precision: str
) -> Iterator[tuple[dict[str, dict[Any, siamfast.Track]], dict[str, float]]]:
    """Of every frame the tracks and the seconds of both trackers."""
    # No search elsewhere: how many boxes on background are lost would decide the time.
    trackers = {
        name: siamfast.MultiTracker(device=device, engine="torch", precision=precision, places_per_frame=0)
        for name in ("graphs", "plain")
    }
    trackers["plain"]._targets.engine.graphs = None
    for t in range(length):
        frame, found, times = video.frame(t), {}, {}
        for name, tracker in trackers.items():
            begin = time.perf_counter()
            found[name] = tracker.update(frame) if t else tracker.add(frame, boxes)
            times[name] = time.perf_counter() - begin
        yield found, times


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
    if graphs and not setting.rehearse:
        row["kernels_us"] = kernel_microseconds(made.runs[OURS])
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
