"""Speed of the correlations beside those of trackers: grouped convolution, a loop, unfold, compiled, and the bmm form.

pytest benchmarks/bench_xcorr.py [--quick] [--compiled] [--results FILE]
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F

import siamfast
from benchmarks.harness import OURS, Case, Made, Run, require_close

Call = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Shape(NamedTuple):
    """A shape that a tracker uses. kind: full, depthwise or pixelwise; kernels: maps of one template (O)."""

    name: str
    kind: str
    z: tuple[int, int, int, int]
    x: tuple[int, int, int, int]
    padding: int = 0
    train: bool = True  # also timed with its backward pass

    @property
    def kernels(self) -> int:
        return self.z[1] // self.x[1]

    @property
    def flop(self) -> int:
        """FLOP of the definition, forward."""
        (_, _, hz, wz), (n, c, hx, wx) = self.z, self.x
        if self.kind == "pixelwise":
            return 2 * n * c * hz * wz * hx * wx
        cells = (hx + 2 * self.padding - hz + 1) * (wx + 2 * self.padding - wz + 1)
        return 2 * n * c * self.kernels * hz * wz * cells

    @property
    def bytes(self) -> int:
        """Bytes of the forward pass in float32: each input read once, the output written once."""
        outputs = self.flop // (2 * self.z[2] * self.z[3])  # cells times channels; full correlations sum over channels
        if self.kind == "full":
            outputs //= self.x[1]
        elif self.kind == "pixelwise":
            outputs = self.x[0] * self.z[2] * self.z[3] * self.x[2] * self.x[3]
        return 4 * (_count(self.z) + _count(self.x) + outputs)


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def full(name: str, batch: int, c: int, z: int, x: int, kernels: int = 1) -> Shape:
    return Shape(name, "full", (batch, kernels * c, z, z), (batch, c, x, x))


def _depthwise(name: str, batch: int, c: int, z: int, x: int, padding: int = 0) -> Shape:
    return Shape(f"{name}, B={batch}", "depthwise", (batch, c, z, z), (batch, c, x, x), padding)


SHAPES = [
    full("siamfc-pytorch train, B=8", 8, 256, 6, 20),
    Shape("siamfc-pytorch track, 3 scales", "full", (1, 256, 6, 6), (3, 256, 22, 22), train=False),
    *(full(f"SiamFC, B={batch}", batch, 256, 6, 22) for batch in (1, 8, 32, 64)),
    full("alexnet v2, B=32", 32, 32, 17, 49),
    full("siamrpn up-channel 10, B=8", 8, 256, 4, 20, 10),
    full("siamrpn up-channel 20, B=8", 8, 256, 4, 20, 20),
    *(_depthwise("pysot resnet-50", batch, 256, 5, 29) for batch in (1, 8, 28)),
    *(_depthwise("pysot alexnet", batch, 256, 4, 20) for batch in (1, 8, 64)),
    _depthwise("siamcar", 8, 256, 7, 31),
    _depthwise("siamfc++ alexnet", 32, 256, 4, 26),
    _depthwise("siamfc++ googlenet", 32, 256, 3, 25),
    *(_depthwise("nanotrack", batch, 96, 4, 16, 1) for batch in (1, 32)),
    *(Shape(f"lighttrack, B={batch}", "pixelwise", (batch, 96, 8, 8), (batch, 96, 16, 16)) for batch in (1, 32)),
]


# --------------------------------------------------------------------------------------------------------------- peers
def ours(case: Shape) -> Call:
    if case.kind == "full":
        return siamfast.xcorr
    if case.kind == "depthwise":
        return lambda z, x: siamfast.xcorr_depthwise(z, x, padding=case.padding)
    return siamfast.xcorr_pixelwise


def grouped(case: Shape) -> Call:
    """The grouped convolution of pysot, siamfc-pytorch and nearly all others."""

    def call(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        (nz, _, hz, wz), (nx, c, hx, wx) = z.shape, x.shape
        if case.kind == "full":
            out = F.conv2d(x.reshape(-1, nz * c, hx, wx), z.reshape(-1, c, hz, wz), groups=nz)
            return out.reshape(nx, -1, *out.shape[2:])
        planes = nz * c
        out = F.conv2d(x.reshape(-1, planes, hx, wx), z.reshape(planes, 1, hz, wz), groups=planes, padding=case.padding)
        return out.reshape(nx, c, *out.shape[2:])

    return call


def loop(case: Shape) -> Call:
    """pysot's `xcorr_slow`, LightTrack's `pixel_corr`: one convolution per sample."""

    def call(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        c, rows = x.shape[1], []
        for n in range(len(x)):
            template = z[n % len(z)]
            if case.kind == "full":
                rows.append(F.conv2d(x[n : n + 1], template.reshape(-1, c, *z.shape[2:])))
            elif case.kind == "depthwise":
                rows.append(F.conv2d(x[n : n + 1], template.unsqueeze(1), groups=c, padding=case.padding))
            else:
                rows.append(F.conv2d(x[n : n + 1], template.flatten(1).T.reshape(-1, c, 1, 1)))
        return torch.cat(rows)

    return call


def unfolded(case: Shape) -> Call:
    """im2col and a matrix product."""

    def call(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        nx, nz, c, (hz, wz) = len(x), len(z), x.shape[1], z.shape[2:]
        shape = x.shape[2] + 2 * case.padding - hz + 1, x.shape[3] + 2 * case.padding - wz + 1
        columns = F.unfold(x, (hz, wz), padding=case.padding)
        if case.kind == "full":
            rows = z.reshape(nz, -1, c * hz * wz)
            return torch.matmul(rows, columns.unflatten(0, (-1, nz))).reshape(nx, -1, *shape)
        product = torch.matmul(z.reshape(nz, c, 1, hz * wz), columns.reshape(-1, nz, c, hz * wz, columns.shape[2]))
        return product.reshape(nx, c, *shape)

    return call


def matmul(case: Shape) -> Call:
    """LightTrack's `pixel_corr_mat`."""
    return lambda z, x: (z.flatten(2).transpose(1, 2) @ x.flatten(2)).reshape(len(x), -1, *x.shape[2:])


def torch_backend(case: Shape) -> Call:
    """Our torch backend: for the full correlation the bmm form, a GEMM and a sum along diagonals."""

    def call(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        with siamfast.backend("torch"):
            return ours(case)(z, x)

    return call


def peers(case: Shape, compiled: bool) -> dict[str, Call]:
    """The contenders beside our op, by name; the first is the one in common use."""
    if case.kind == "pixelwise":
        contenders = {"matmul": matmul(case), "loop": loop(case)}
    else:
        contenders = {"grouped": grouped(case), "loop": loop(case)}
        if case.x[0] <= 3:  # for larger batches its columns take seconds and gigabytes
            contenders["unfold"] = unfolded(case)
        if case.kind == "full":
            contenders["bmm"] = torch_backend(case)
    if compiled:
        # Sizes as constants: Inductor compiles some of these with dynamic sizes to an error.
        torch._dynamo.reset()
        contenders["compiled"] = torch.compile(next(iter(contenders.values())), dynamic=False)
    return contenders


# ------------------------------------------------------------------------------------------------------------- running
def inputs(case: Shape, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    z, x = torch.randn(case.z, generator=generator).to(device), torch.randn(case.x, generator=generator).to(device)
    return z, x, torch.randn_like(ours(case)(z, x))


def value_and_gradients(call: Call, z: torch.Tensor, x: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
    z, x = z.detach().requires_grad_(), x.detach().requires_grad_()
    out = call(z, x)
    return (out, *torch.autograd.grad(out, (z, x), grad))


def make(case: Shape, direction: str, device: str, compiled: bool) -> Made:
    z, x, grad = inputs(case, device)
    calls = {OURS: ours(case)} | peers(case, compiled)
    with siamfast.backend("reference"):
        truth = value_and_gradients(ours(case), z.double(), x.double(), grad.double())

    def check(name: str) -> None:
        # Float32 sums of up to some ten thousand terms; TF32 on a GPU rounds each factor to 11 bits.
        for name_of_value, result, true in zip(
            ("value", "dz", "dx"), value_and_gradients(calls[name], z, x, grad), truth, strict=True
        ):
            require_close(f"{case.name}: {name_of_value} of {name}", result, true, 2e-3 if z.is_cuda else 2e-5)

    def forward(call: Call) -> Run:
        def run() -> torch.Tensor:
            with torch.no_grad():
                return call(z, x)

        return run

    def backward(call: Call) -> Run:
        return lambda: value_and_gradients(call, z, x, grad)

    way = forward if direction == "forward" else backward
    return Made({name: way(call) for name, call in calls.items()}, check)


def cases(quick: bool = False) -> Iterator[Case]:
    for shape in SHAPES[::8] if quick else SHAPES:
        for direction, factor in (("forward", 1), ("forward+backward", 3)) if shape.train else (("forward", 1),):
            yield Case(
                f"xcorr {shape.kind}",
                shape.name,
                direction,
                {"z": shape.z, "x": shape.x},
                (OURS, *peers(shape, compiled=False)),
                functools.partial(make, shape, direction),
                bytes=shape.bytes * factor,
                flop=shape.flop * factor,
                compilable=True,
            )


def test_xcorr(timed: None) -> None:
    """Timed by the fixture, its values checked first."""
