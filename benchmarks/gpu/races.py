"""A test for races: the same call thousands of times, its bits compared, while another stream keeps the chip busy.

Two kernels whose loads are pipelined take it: both correlation gradients in float32, and the fused loss in bfloat16,
which reads back from memory what it has written. Each runs in one pipeline stage, with no copies in flight, and in two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from siamfast.kernels.xcorr import launch_backward
from siamfast.kernels.xcorr_balanced_loss import launch as joint_launch

from benchmarks.gpu.checks import Tensors, difference
from benchmarks.gpu.schedule import Row
from benchmarks.gpu.tasks import Setting, Task
from siamfast.ops.balanced_logistic_loss import check_options

MOST = 60.0  # seconds of both numbers of stages; the section's end stops them before
RUNS, LOOK = 5000, 100  # calls of each kernel and stage; between looks at the clock
STAGES = (1, 2)
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}
Launch = Callable[[], Tensors]


def races(setting: Setting) -> Iterator[Task]:
    for name, made in (("gradients, float32", gradients), ("fused loss, bfloat16", fused)):
        yield Task(name, lambda made=made: compared(made, setting), MOST)


def gradients(device: str, small: bool) -> tuple[str, Any, Launch]:
    """The name and module of the configuration, and a call: SiamFC's gradients for 32 samples."""
    samples, channels = (1, 8) if small else (32, 256)
    generator = torch.Generator().manual_seed(0)
    z, x, grad = (
        torch.randn(size, generator=generator).to(device)
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

    return "gradients_config", launch_backward, launch


def fused(device: str, small: bool) -> tuple[str, Any, Launch]:
    """The same for SiamFC's head and loss, 64 samples."""
    samples, channels = (1, 8) if small else (64, 256)
    generator = torch.Generator().manual_seed(0)
    z, x = (
        torch.randn(samples, channels, side, side, generator=generator).to(device, torch.bfloat16) for side in (6, 22)
    )
    centers = (torch.rand(samples, 2, generator=generator) * 17).to(device)
    options, dx = check_options(8, 16, 0, "l1", "half", "sample"), torch.empty_like(x)

    def launch() -> Tensors:
        dx.fill_(float("nan"))
        sums, scores, dz = joint_launch.forward(
            z=z,
            x=x,
            scale=None,
            bias=None,
            scale_constant=0.1,
            bias_constant=0.0,
            pad_y=0,
            pad_x=0,
            labels=None,
            centers=centers,
            options=options,
            dx=dx,
        )
        return {"losses": sums, "scores": scores, "dz": dz, "dx": dx}

    return "config_of", joint_launch, launch


def compared(made: Callable[[str, bool], tuple[str, Any, Launch]], setting: Setting) -> Iterator[Row]:
    """A row per number of stages; the second is also compared with the first."""
    attribute, module, launch = made(setting.device, setting.small)
    choose, firsts, shipped = getattr(module, attribute), {}, []
    runs = 3 if setting.small else RUNS
    for number, stages in enumerate(STAGES):

        def changed(*given: Any, stages: int = stages) -> dict[str, int]:
            chosen = choose(*given)
            shipped.append(chosen["num_stages"])
            return {**chosen, "num_stages": stages}

        with mock.patch.object(module, attribute, changed):
            share = setting.left() / (len(STAGES) - number)
            first, done, differing = repeated(launch, runs, setting, share)
        firsts[stages] = first
        row: Row = {"stages": stages, "runs": done, "differing": differing}
        differences = [difference(first[name], true) for name, true in firsts[STAGES[0]].items()]
        # Another order of the sums is no race: between stages only a difference beyond roundings is wrong.
        row["same_bits_as_1_stage"] = all(_same(first[name], true) for name, true in firsts[STAGES[0]].items())
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
