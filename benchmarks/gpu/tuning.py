"""Which configuration is fastest on this GPU: a call's kernels as shipped, and with other numbers.

The launchers choose by the sizes and the chip, from predictions (kernels/predict.py); what is faster here, by a row of
this section, is a reason to change them. Another configuration may race or spill where the shipped one does not:
test_launch.py says so before it ships.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import torch
from siamfast.kernels.balanced_logistic_loss import launch as loss
from siamfast.kernels.correspondence_warp import launch as warp
from siamfast.kernels.correspondence_warp import launch_backward as warp_backward
from siamfast.kernels.correspondence_warp import launch_dense as warp_dense
from siamfast.kernels.crop_and_resize import launch as crop
from siamfast.kernels.xcorr import launch as full
from siamfast.kernels.xcorr import launch_backward as full_backward
from siamfast.kernels.xcorr import launch_depthwise as depthwise

from benchmarks.gpu import timing
from benchmarks.gpu.clock import kernel_microseconds
from benchmarks.gpu.schedule import Row, reason
from benchmarks.gpu.tasks import Setting, Task, round_robin
from benchmarks.harness import OURS, Case

MOST = 120.0  # seconds of a case: each configuration compiles its kernels
SMALLEST = 2  # cases of a rehearsal


class Choice(NamedTuple):
    """What a launcher reads: a constant of its module, or (`changes`) numbers of what its function returns."""

    module: ModuleType
    name: str
    others: tuple[Any, ...]
    changes: bool = False
    forward: bool = True  # whether it is the forward's

    @property
    def label(self) -> str:
        return f"{self.module.__name__.removeprefix('siamfast.kernels.')}.{self.name}"


def _steps(name: str, *numbers: int) -> tuple[dict[str, int], ...]:
    return tuple({name: number} for number in numbers)


def _all_of(**numbers: tuple[int, ...]) -> tuple[dict[str, int], ...]:
    return tuple(dict(zip(numbers, chosen, strict=True)) for chosen in itertools.product(*numbers.values()))


_OF_ROWS = (*_steps("num_warps", 4, 8), *_steps("num_stages", 1, 2, 3))
CHOICES = {
    "xcorr full": (
        Choice(full, "MOST_LOADS", (256, 1024)),
        Choice(full, "PROGRAMS", (64, 264, 528)),
        Choice(
            full_backward,
            "gradients_config",
            _all_of(BLOCK_Q=(32, 64), BLOCK_C=(32, 64), num_warps=(4, 8)),
            True,
            False,
        ),
        Choice(
            full_backward,
            "search_config",
            _all_of(BLOCK_M=(32, 64), BLOCK_Q=(64, 128), num_warps=(4, 8), num_stages=(1, 2)),
            True,
            False,
        ),
        Choice(
            full_backward,
            "template_config",
            _all_of(BLOCK_M=(32, 64), BLOCK_Q=(32, 64), num_warps=(4, 8), num_stages=(2, 3)),
            True,
            False,
        ),
    ),
    "xcorr depthwise": (
        Choice(depthwise, "FORWARD_ROWS", ((4,), (5,), (6,), (8,))),
        Choice(depthwise, "FORWARD_COLUMNS", ((64,), (128,))),
        Choice(depthwise, "TEMPLATE_ROWS", ((4,), (5,), (6,)), forward=False),
        Choice(depthwise, "MANY_PLANES", (1, 1 << 30), forward=False),
    ),
    "correspondence_warp": (
        Choice(warp, "PROGRAMS", (64, 264, 528)),
        Choice(warp, "forward_config", (*_OF_ROWS, *_steps("BLOCK_J", 32, 64), *_steps("BLOCK_Q", 64)), True),
        Choice(warp, "top_config", (*_OF_ROWS, *_steps("BLOCK_J", 16, 32, 64)), True),
        Choice(warp_backward, "backward_config", (*_OF_ROWS, *_steps("BLOCK_D", 64, 128, 256)), True, False),
        Choice(warp_backward, "values_config", (*_OF_ROWS, *_steps("BLOCK_Q", 16, 32)), True, False),
        Choice(warp_dense, "MOST_BYTES", (12 << 20, 48 << 20, 96 << 20), forward=False),
        Choice(warp_dense, "PROGRAMS", (264, 1056), forward=False),
        Choice(
            warp_dense,
            "BLOCKS",
            tuple(
                {**warp_dense.BLOCKS, **step} for step in (*_OF_ROWS, *_steps("BLOCK_Q", 32), *_steps("BLOCK_J", 128))
            ),
            forward=False,
        ),
    ),
    "balanced_logistic_loss": (Choice(loss, "TILE", (1024, 2048, 8192)), Choice(loss, "NUM_WARPS", (4, 16))),
    "crop_and_resize": (Choice(crop, "BLOCK", (128, 512, 1024)), Choice(crop, "NUM_WARPS", (1, 2, 8))),
}


def tuning(setting: Setting) -> Iterator[Task]:
    groups: dict[str, list[Case]] = {}
    for case in timing.loaded(setting.small)[0]:
        groups.setdefault(case.op, []).append(case)
    chosen = {op: sorted(groups[op], key=lambda case: case.bytes or 0) for op in CHOICES if op in groups}
    # The largest cases: what a small one takes is the launch. In a rehearsal the smallest.
    cases = list(round_robin(group if setting.small else group[::-1] for group in chosen.values()))
    for case in cases[:SMALLEST] if setting.small else cases:
        yield Task(case.group, functools.partial(compared, case, setting), 4 * MOST if setting.rehearse else MOST)


def compared(case: Case, setting: Setting) -> Iterator[Row]:
    """A row for each choice: microseconds of a call's kernels as shipped and with each other number, or why there are
    none."""
    made = case.make(setting.device, False)
    made.check(OURS)
    run = made.runs[OURS]
    shipped = kernels_microseconds(run, setting)
    for choice in CHOICES[case.op]:
        if case.direction == "forward" and not choice.forward:
            continue
        times: dict[str, Any] = {}
        for other in choice.others:
            if setting.left() < 0:
                break
            try:
                with changed(choice, other) as used:
                    made.check(OURS)
                    taken = kernels_microseconds(run, setting)
                if used:
                    times[str(other)] = taken
            except Exception as error:  # more shared memory than there is, wrong values, ...
                times[str(other)] = reason(error)
                if setting.device == "cuda":
                    torch.cuda.synchronize()
        if times:
            faster = {name: us for name, us in times.items() if isinstance(us, float) and us < shipped}
            best = min(faster, key=lambda name: faster[name]) if faster else "shipped"
            yield {"case": case.group, "choice": choice.label, "shipped_us": shipped, "us": times, "best": best}


@contextlib.contextmanager
def changed(choice: Choice, other: Any) -> Iterator[list[bool]]:
    """Inside, the launcher reads `other`; gives a list that is empty where it made no difference."""
    value = getattr(choice.module, choice.name)
    used: list[bool] = []

    def chosen(*given: Any, **named: Any) -> Any:
        numbers = value(*given, **named)
        if numbers | other != numbers:
            used.append(True)
        return numbers | other

    if not choice.changes:
        used += [True] * (other != value)
    _forget()
    try:
        with mock.patch.object(choice.module, choice.name, chosen if choice.changes else other):
            yield used
    finally:
        _forget()


def _forget() -> None:
    """Blocks that were chosen before."""
    for function in (depthwise.forward_blocks, depthwise.template_blocks):
        function.cache_clear()


def kernels_microseconds(run: timing.harness.Run, setting: Setting) -> float:
    """Of all kernels of a call, cuBLAS's too; a rehearsal has no device to ask."""
    if setting.rehearse:
        run()
        return 1.0
    return round(sum(kernel_microseconds(run).values()), 2)
