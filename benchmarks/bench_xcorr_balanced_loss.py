"""Speed of SiamFC's head and loss in one call beside the grouped convolution and eager loss that trackers write.

pytest benchmarks/bench_xcorr_balanced_loss.py [--quick] [--compiled] [--results FILE]
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import torch

import siamfast
from benchmarks import bench_xcorr
from benchmarks.bench_balanced_logistic_loss import labels_of_the_first_version, siamfc_pytorch
from benchmarks.harness import OURS, Case, Made, Run, require_close

SCALE = 1e-3
Call = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def ours(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    loss = siamfast.xcorr_balanced_loss(z, x, scale=SCALE, r_pos=16, r_neg=0)
    assert isinstance(loss, torch.Tensor)
    return loss


def two_ops(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return siamfast.balanced_logistic_loss(siamfast.xcorr(z, x, scale=SCALE), r_pos=16, r_neg=0)


def make(shape: bench_xcorr.Shape, dtype: torch.dtype, device: str, compiled: bool) -> Made:
    z, x = (t.to(dtype).requires_grad_() for t in bench_xcorr.inputs(shape, device)[:2])
    labels, convolution = labels_of_the_first_version(len(x)).to(device).contiguous(), bench_xcorr.grouped(shape)

    def eager(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return siamfc_pytorch((convolution(z, x) * SCALE).float(), labels)  # in float32, as under autocast

    calls: dict[str, Call] = {OURS: ours, "grouped, eager": eager, "our two ops": two_ops}
    if compiled:
        calls["compiled"] = torch.compile(eager, dynamic=False)

    def loss_and_gradients(call: Call, z: torch.Tensor = z, x: torch.Tensor = x) -> tuple[torch.Tensor, ...]:
        loss = call(z, x)
        return (loss, *torch.autograd.grad(loss, (z, x)))

    with siamfast.backend("reference"):
        truth = loss_and_gradients(two_ops, *(t.detach().double().requires_grad_() for t in (z, x)))

    def check(name: str) -> None:
        for name_of_value, result, true in zip(
            ("loss", "dz", "dx"), loss_and_gradients(calls[name]), truth, strict=True
        ):
            # Sums of some ten thousand float32 terms; TF32 on a GPU rounds each factor to 11 bits, bfloat16 to 8.
            allowed = 3e-2 if dtype == torch.bfloat16 else 5e-3 if z.is_cuda else 2e-5
            require_close(f"{shape.name}: {name_of_value} of {name}", result, true, allowed)

    runs: dict[str, Run] = {name: functools.partial(loss_and_gradients, call) for name, call in calls.items()}
    return Made(runs, check)


def _case(shape: bench_xcorr.Shape, dtype: torch.dtype = torch.float32) -> Case:
    cells, size = 17 * 17 * shape.x[0], dtype.itemsize
    name = shape.name if dtype == torch.float32 else f"{shape.name}, {str(dtype).removeprefix('torch.')}"
    return Case(
        "xcorr_balanced_loss",
        name,
        "forward+backward",
        {"z": shape.z, "x": shape.x},
        (OURS, "grouped, eager", "our two ops"),
        functools.partial(make, shape, dtype),
        str(dtype).removeprefix("torch."),
        bytes=2 * (shape.bytes - 4 * cells) * size // 4,
        flop=3 * shape.flop,
        compilable=True,
    )


def cases(quick: bool = False) -> Iterator[Case]:
    for shape in bench_xcorr.SHAPES:
        if shape.name.startswith("SiamFC,") and (shape.name == "SiamFC, B=8" or not quick):
            yield _case(shape)


def batches(sizes: Sequence[int]) -> Iterator[Case]:
    """SiamFC's sizes at these batches, float32 and bfloat16."""
    for batch in sizes:
        for dtype in (torch.float32, torch.bfloat16):
            yield _case(bench_xcorr.full(f"SiamFC, B={batch}", batch, 256, 6, 22), dtype)


def test_xcorr_balanced_loss(timed: None) -> None:
    """Timed by the fixture, its values checked first."""
