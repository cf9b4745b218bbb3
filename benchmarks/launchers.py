"""The page docs/performance/host-times.md: what a call costs the host on a GPU before Triton's own launch.

    python -m benchmarks.launchers > docs/performance/host-times.md

No GPU: CPU tensors stand in for CUDA's, and a launch or a matrix product does nothing.
"""

from __future__ import annotations

import functools
import importlib
import statistics
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from siamfast.kernels import chips
from triton.runtime.jit import JITFunction

import siamfast
from benchmarks.harness import device_name
from siamfast.ops import dispatch
from siamfast.ops.xcorr_balanced_loss import triton as joint

INTRODUCTION = """# Host time of calls on a GPU

Made by `python -m benchmarks.launchers > docs/performance/host-times.md` on {device}, torch {torch}: CPU tensors
stand in for CUDA's, and a launch of a kernel or a product of cuBLAS does nothing. What Triton's own launch and a GPU's
driver take comes on top.

"Call" is the whole function: checks, the choice of the backend, PyTorch's dispatch and autograd, and the launchers.
"Launchers" are what the Triton backend does in it: shapes, blocks and configurations, outputs, arguments, and PyTorch's
own small operations between kernels, which are not counted as launches. Microseconds, medians of 9 runs of 200 calls.
The goal is 25 us a launch of the launchers.

| call | pass | launches | call, us | launchers, us | launchers, us a launch |
|---|---|---|---|---|---|"""
OPS = "xcorr", "balanced_logistic_loss", "correspondence_warp", "crop_and_resize"
Run = Callable[[], Any]
Tensors = tuple[torch.Tensor, ...]


def cases() -> dict[str, tuple[Callable[..., Any], Tensors]]:
    """One call per op, at a tracker's or a trainer's shape, and the tensors that may need gradients."""
    z, x = torch.randn(8, 256, 6, 6), torch.randn(8, 256, 22, 22)
    # A small map: PyTorch's own operations on it do take the CPU's time.
    query, reference, values = torch.randn(1, 64, 8, 8), torch.randn(1, 64, 8, 8), torch.randn(1, 3, 8, 8)
    frame = torch.zeros(1, 3, 360, 480, dtype=torch.uint8)
    middle, side = torch.full((1, 2), 200.0), torch.full((1,), 80.0)
    warp = siamfast.correspondence_warp
    return {
        "xcorr": (siamfast.xcorr, (z, x)),
        "xcorr_depthwise": (siamfast.xcorr_depthwise, (z, x)),
        "balanced_logistic_loss": (siamfast.balanced_logistic_loss, (x[:, :1].contiguous(),)),
        "xcorr_balanced_loss": (siamfast.xcorr_balanced_loss, (z, x)),
        "correspondence_warp": (warp, (query, reference, values)),
        "correspondence_warp, radius 5": (functools.partial(warp, radius=5), (query, reference, values)),
        "correspondence_warp, top 5": (functools.partial(warp, topk=5), (query, reference, values)),
        "crop_and_resize": (lambda: siamfast.crop_and_resize(frame, middle, side, 127), ()),
    }


class Count:
    """Stands in for Triton's launch and for PyTorch's product, and counts both."""

    def __init__(self) -> None:
        self.launches = 0

    def run(self, *arguments: Any, **options: Any) -> None:
        self.launches += 1

    def multiply(self, rows: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        self.launches += 1
        return cells.new_empty(len(cells), rows.shape[1], cells.shape[2])


@contextmanager
def recorded() -> Iterator[list[Run]]:
    """Inside, the Triton backends' functions are recorded as they are called, with their arguments."""
    runs: list[Run] = []

    def recorder(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            runs.append(functools.partial(function, *arguments))
            return function(*arguments)

        return call

    backends = [importlib.import_module(f"siamfast.ops.{op}.triton") for op in OPS]
    found = [(module, name) for module in backends for name in vars(module) if name.endswith(("forward", "backward"))]
    patches = [mock.patch.object(module, name, recorder(getattr(module, name))) for module, name in found]
    for patch in patches:
        patch.start()
    try:
        yield runs
    finally:
        for patch in patches:
            patch.stop()


def microseconds(run: Run) -> float:
    return statistics.median(timeit.repeat(run, number=200, repeat=9)) / 200 * 1e6


def row(name: str, direction: str, call: Run, count: Count) -> str:
    call()
    count.launches = 0
    with recorded() as launchers:
        call()
    launches, whole = count.launches, microseconds(call)
    with torch.no_grad():  # as inside an autograd.Function
        alone = sum(microseconds(launcher) for launcher in launchers)
    return f"| {name} | {direction} | {launches} | {whole:.0f} | {alone:.0f} | {alone / launches:.0f} |"


def with_backward(function: Callable[..., Any], tensors: Tensors) -> Run:
    inputs = [t.clone().requires_grad_() for t in tensors]
    slope = torch.zeros_like(function(*inputs))
    return lambda: torch.autograd.grad(function(*inputs), inputs, slope)


def main() -> None:
    count = Count()
    JITFunction.run, torch.bmm = count.run, count.multiply
    dispatch.triton_reason = lambda *ignored: None
    chips.chip_of = lambda device: 90
    joint.serves = lambda call: torch.is_grad_enabled() and call.x.requires_grad  # it asks for a CUDA tensor
    print(INTRODUCTION.format(device=device_name("cpu"), torch=torch.__version__))
    with siamfast.backend("triton"):
        for name, (function, tensors) in cases().items():
            with torch.no_grad():
                print(row(name, "forward", functools.partial(function, *tensors), count), flush=True)
            if tensors and "top" not in name:  # which sorts the choices: the CPU's work would count
                print(row(name, "forward+backward", with_backward(function, tensors), count), flush=True)


if __name__ == "__main__":
    main()
