"""A test for races: the same call thousands of times, its bits compared, while another stream keeps the chip busy.

The kernel of both correlation gradients takes it, in float32 and in bfloat16: in one pipeline stage, with no copies in
flight, and in several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from siamfast.kernels.xcorr import launch_backward

from benchmarks.gpu.checks import Tensors, difference
from benchmarks.gpu.schedule import Row
from benchmarks.gpu.tasks import Setting, Task

MOST = 60.0  # seconds of both numbers of stages; the section's end stops them before
RUNS, LOOK = 5000, 100  # calls of each dtype and number of stages; between looks at the clock
STAGES = {torch.float32: (1, 2), torch.bfloat16: (1, 3)}  # shipped: 1 for float32, 3 for bfloat16
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}
Launch = Callable[[], Tensors]


def races(setting: Setting) -> Iterator[Task]:
    for dtype in STAGES:
        name = f"gradients, {str(dtype).removeprefix('torch.')}"
        yield Task(name, lambda dtype=dtype: compared(dtype, setting), MOST)


def gradients(dtype: torch.dtype, device: str, small: bool) -> Launch:
    """SiamFC's gradients for 32 samples."""
    samples, channels = (1, 8) if small else (32, 256)
    generator = torch.Generator().manual_seed(0)
    z, x, grad = (
        torch.randn(size, generator=generator).to(device, dtype)
        for size in ((samples, channels, 6, 6), (samples, channels, 22, 22), (samples, 1, 17, 17))
    )
    grads = {"dz": torch.empty_like(z), "dx": torch.empty_like(x)}

    def launch() -> Tensors:
        for tensor in grads.values():
            tensor.fill_(float("nan"))
        launch_backward.both_gradients(
            grad=grad, z=z, x=x, scale=None, **grads, scale_constant=1.0, pad_y=0, pad_x=0, all_pairs=False
        )
        return grads

    return launch


def compared(dtype: torch.dtype, setting: Setting) -> Iterator[Row]:
    """A row per number of stages; each is also compared with one stage."""
    launch, choose = gradients(dtype, setting.device, setting.small), launch_backward.gradients_config
    firsts, shipped, runs = {}, [], 3 if setting.small else RUNS
    for number, stages in enumerate(STAGES[dtype]):

        def changed(*given: Any, stages: int = stages) -> dict[str, int]:
            chosen = choose(*given)
            shipped.append(chosen["num_stages"])
            return {**chosen, "num_stages": stages}

        with mock.patch.object(launch_backward, "gradients_config", changed):
            share = setting.left() / (len(STAGES[dtype]) - number)
            first, done, differing = repeated(launch, runs, setting, share)
        firsts[stages] = first
        row: Row = {"stages": stages, "runs": done, "differing": differing}
        differences = [difference(first[name], true) for name, true in firsts[1].items()]
        # Another order of the sums is no race: between stages only a difference beyond roundings is wrong.
        row["same_bits_as_1_stage"] = all(_same(first[name], true) for name, true in firsts[1].items())
        row["from_1_stage"] = max(differences)
        row["left_out"] = runs - done
        # The TF32 gradients are shipped without stages, because kernels/races.py reports a race with two. A race with
        # two stages is therefore no error here.
        yield row | {
            "shipped": stages in shipped,
            "ok": stages not in shipped or (differing == 0 and max(differences) < 1e-2),
        }


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a.view(BITS[a.dtype]) == b.view(BITS[b.dtype])).all())


def repeated(launch: Launch, runs: int, setting: Setting, seconds: float) -> tuple[Tensors, int, int]:
    """The first call's results, how many calls were made, and how many gave other bits than the first."""
    first = {name: tensor.clone() for name, tensor in launch().items()}
    differing = torch.zeros((), dtype=torch.int64, device=setting.device)
    side_stream, size = torch.cuda.Stream(), 64 if setting.small else 1024
    a, b = torch.randn(2, size, size, device=setting.device)
    out = torch.empty_like(a)
    torch.cuda.synchronize()
    done, end = 1, setting.left() - seconds
    while done < runs:
        with torch.cuda.stream(side_stream):
            # Alternately take multiprocessors and memory from the kernel under test.
            torch.mm(a, b, out=out) if done % 2 else out.copy_(a)
        results = launch()
        wrong = [(results[n].view(BITS[t.dtype]) != t.view(BITS[t.dtype])).any() for n, t in first.items()]
        differing += torch.stack(wrong).any()
        done += 1
        if done % LOOK == 0:
            torch.cuda.synchronize()
            if setting.left() < end:
                break
    torch.cuda.synchronize()
    return first, done, int(differing)
