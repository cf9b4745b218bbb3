"""The time that an op takes on the host before Triton's own launch: checks, shapes, blocks, outputs.

    python -m benchmarks.launchers

No GPU: CPU tensors stand in for CUDA's, and a launch or a matrix product does nothing; Triton's and cuBLAS's own launch
comes on top. Medians of 9 runs of 200 calls, one row per op: microseconds and launches.
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from typing import Any

import torch
from siamfast.kernels import chips
from triton.runtime.jit import JITFunction

import siamfast
from benchmarks.harness import device_name
from siamfast.ops import dispatch


def cases() -> dict[str, Callable[[], Any]]:
    """One call per op, at a tracker's or a trainer's shape."""
    z, x = torch.randn(8, 256, 6, 6), torch.randn(8, 256, 22, 22)
    query, reference, values = torch.randn(2, 64, 24, 24), torch.randn(2, 64, 24, 24), torch.randn(2, 3, 24, 24)
    frame, middle, side = (
        torch.zeros(1, 3, 360, 480, dtype=torch.uint8),
        torch.full((1, 2), 200.0),
        torch.full((1,), 80.0),
    )
    return {
        "xcorr": lambda: siamfast.xcorr(z, x),
        "xcorr_depthwise": lambda: siamfast.xcorr_depthwise(z, x),
        "balanced_logistic_loss": lambda: siamfast.balanced_logistic_loss(x[:, :1]),
        "xcorr_balanced_loss": lambda: siamfast.xcorr_balanced_loss(z, x),
        "correspondence_warp": lambda: siamfast.correspondence_warp(query, reference, values),
        "correspondence_warp, radius 5": lambda: siamfast.correspondence_warp(query, reference, values, radius=5),
        "crop_and_resize": lambda: siamfast.crop_and_resize(frame, middle, side, 127),
    }


def main() -> None:
    launches = [0]

    def run(*arguments: Any, **options: Any) -> None:
        launches[0] += 1

    def multiply(rows: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        launches[0] += 1
        return cells.new_empty(len(cells), rows.shape[1], cells.shape[2])

    JITFunction.run, torch.bmm = run, multiply
    dispatch.triton_reason = lambda *ignored: None
    chips.chip_of = lambda device: 90
    print(device_name("cpu"))
    with siamfast.backend("triton"), torch.no_grad():
        for name, call in cases().items():
            call()
            launches[0] = 0
            call()
            each = launches[0]
            times = timeit.repeat(call, number=200, repeat=9)
            print(f"{name:32} {statistics.median(times) / 200 * 1e6:7.1f} us, {each} launches", flush=True)


if __name__ == "__main__":
    main()
