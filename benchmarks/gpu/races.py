"""A test for races: the same call thousands of times, its bits compared, while another stream keeps the chip busy.

The kernel of both correlation gradients takes it, in float32, in bfloat16 and with templates of one cell: in one
pipeline stage, with no copies in flight, and in several.
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
# dtype, sides of templates and searches, several stages: shipped in the second, races in the others (kernels/races.py).
CASES = {
    "gradients, float32": (torch.float32, 6, 22, 2),
    "gradients, bfloat16": (torch.bfloat16, 6, 22, 3),
    "gradients, bfloat16, templates of 1x1": (torch.bfloat16, 1, 16, 3),
}
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}
Launch = Callable[[], Tensors]


def races(setting: Setting) -> Iterator[Task]:
    for name, case in CASES.items():
        yield Task(name, lambda case=case: compared(*case, setting), MOST)


def gradients(dtype: torch.dtype, template: int, search: int, device: str, small: bool) -> Launch:
    """Gradients of 32 samples of 256 channels, as SiamFC has them, for square templates and searches."""
    (samples, channels), out = (1, 8) if small else (32, 256), search - template + 1
    generator = torch.Generator().manual_seed(0)
    z, x, grad = (
        torch.randn(size, generator=generator).to(device, dtype)
        for size in (
            (samples, channels, template, template),
            (samples, channels, search, search),
            (samples, 1, out, out),
        )
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


def compared(dtype: torch.dtype, template: int, search: int, several: int, setting: Setting) -> Iterator[Row]:
    """A row per number of stages; each is also compared with one stage."""
    launch = gradients(dtype, template, search, setting.device, setting.small)
    choose = launch_backward.gradients_config
    firsts, shipped, runs = {}, [], 3 if setting.small else RUNS
    for number, stages in enumerate((1, several)):

        def changed(*given: Any, stages: int = stages) -> dict[str, int]:
            chosen = choose(*given)
            shipped.append(chosen["num_stages"])
            return {**chosen, "num_stages": stages}

        with mock.patch.object(launch_backward, "gradients_config", changed):
            share = setting.left() / (2 - number)
            first, done, differing = repeated(launch, runs, setting, share)
        firsts[stages] = first
        row: Row = {"stages": stages, "runs": done, "differing": differing}
        differences = [difference(first[name], true) for name, true in firsts[1].items()]
        # Another order of the sums is no race: between stages only a difference beyond roundings is wrong.
        row["same_bits_as_1_stage"] = all(_same(first[name], true) for name, true in firsts[1].items())
        row["from_1_stage"] = max(differences)
        row["left_out"] = runs - done
        # A race in stages that are not shipped is no error here.
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
