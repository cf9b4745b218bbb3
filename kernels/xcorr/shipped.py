"""The correlations' shipped calls: every launcher at the shapes of performance.md's table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from siamfast.kernels import tf32
from siamfast.kernels.launches import DTYPES, Call, zeros
from siamfast.kernels.xcorr import launch, launch_backward, launch_depthwise


class Case(NamedTuple):
    """A correlation."""

    name: str
    batch: int
    z: tuple[int, int]
    x: tuple[int, int]
    channels: int
    kernels: int = 1  # of a template
    padding: int = 0
    templates: int | None = None  # None: as many as searches

    @property
    def response(self) -> tuple[int, int]:
        (height, width), (hz, wz) = self.x, self.z
        return height + 2 * self.padding - hz + 1, width + 2 * self.padding - wz + 1

    @property
    def cells(self) -> int:
        return self.response[0] * self.response[1]

    @property
    def z_shape(self) -> tuple[int, int, int, int]:
        return (self.templates or self.batch, self.kernels * self.channels, *self.z)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.channels, *self.x)


_FULL = (
    Case("siamfc track", 3, (6, 6), (22, 22), 256, templates=1),
    Case("siamfc train", 8, (6, 6), (20, 20), 256),
    Case("alexnet v2", 32, (17, 17), (49, 49), 32),
    Case("siamrpn up-channel", 8, (4, 4), (20, 20), 256, 10),
    Case("64 templates of 1x1", 32, (1, 1), (16, 16), 96, 64),
)
_DEPTHWISE = (
    Case("pysot resnet", 28, (5, 5), (29, 29), 256),
    Case("pysot alexnet", 128, (4, 4), (20, 20), 256),
    Case("siamcar", 32, (7, 7), (31, 31), 256),
    Case("siamfc++ googlenet", 32, (3, 3), (25, 25), 256),
    Case("nanotrack", 32, (4, 4), (16, 16), 96, padding=1),
)


def calls() -> Iterator[Call]:
    """Rows of the table."""
    for case in _FULL:
        if case.z != (1, 1):  # else the product is the response
            for dtype in ("fp32", "bf16"):
                yield _diagonal_sums(dtype, case)
        for dtype, exact in (("fp32", False), ("fp32", True), ("bf16", False)):
            yield from _full(dtype, exact, case)
    for case in _DEPTHWISE:
        for dtype in ("fp32", "bf16"):
            yield from _depthwise(dtype, case)


def _diagonal_sums(dtype: str, case: Case) -> Call:
    """The forward's kernel; the matrix product before it is cuBLAS's."""
    taps, plane, out = case.z[0] * case.z[1], case.x[0] * case.x[1], case.batch * case.kernels * case.cells

    def run() -> None:
        launch.diagonal_sums(
            products=zeros((case.batch, case.kernels * taps, plane), "fp32"),
            out=zeros((case.batch, case.kernels, *case.response), dtype),
            template=case.z,
            search=case.x,
            scale=None,
            bias=None,
            scale_constant=1.0,
            bias_constant=0.0,
            pad_y=case.padding,
            pad_x=case.padding,
            per_template=case.kernels,
        )

    used = 4 * out * taps  # of G; the cells that no pixel of the response needs are not read
    return Call(f"xcorr diagonal sums, {case.name}, {dtype}", run, used + out * DTYPES[dtype].itemsize, out * taps)


def _full(dtype: str, exact: bool, case: Case) -> Iterator[Call]:
    size, plane = DTYPES[dtype].itemsize, case.x[0] * case.x[1]
    z, x = (torch.Size(shape).numel() for shape in (case.z_shape, case.x_shape))
    out_shape = case.batch, case.kernels, *case.response
    out = case.batch * case.kernels * case.cells
    flop = 2 * case.batch * case.kernels * case.channels * case.z[0] * case.z[1] * case.cells
    rest: dict[str, Any] = {"rate": dtype, "tf32": not exact}
    numbers: dict[str, Any] = {"scale_constant": 1.0, "pad_y": 0, "pad_x": 0, "all_pairs": False}
    name, wide = f"{case.name}, {'exact ' if exact else ''}{dtype}", plane * size % 16 == 0

    def gradients() -> None:
        grad, z, x = zeros(out_shape, dtype), zeros(case.z_shape, dtype), zeros(case.x_shape, dtype)
        launch_backward.both_gradients(grad=grad, z=z, x=x, scale=None, dz=z.clone(), dx=x.clone(), **numbers)

    def search_gradient() -> None:
        grad, z, dx = zeros(out_shape, dtype), zeros(case.z_shape, dtype), zeros(case.x_shape, dtype)
        launch_backward.search_gradient(grad=grad, z=z, scale=None, dx=dx, **numbers)

    def template_gradient() -> None:
        grad, x, dz = zeros(out_shape, dtype), zeros(case.x_shape, dtype), zeros(case.z_shape, dtype)
        launch_backward.template_gradient(grad=grad, x=x, dz=dz, **numbers)

    how = tf32.EXACT if exact else "tf32" if dtype == "fp32" else "ieee"
    together = launch_backward.in_one_launch(case.kernels * case.z[0] * case.z[1], how)
    yield Call(
        f"xcorr dz and dx, {name}", gradients, (2 * z + 2 * x + out) * size, 2 * flop, wide=wide and together, **rest
    )
    yield Call(f"xcorr dx, {name}", search_gradient, (z + x + out) * size, flop, **rest)
    yield Call(f"xcorr dz, {name}", template_gradient, (z + x + out) * size, flop, wide=wide, **rest)


def _depthwise(dtype: str, case: Case) -> Iterator[Call]:
    size, planes = DTYPES[dtype].itemsize, case.batch * case.channels
    padding = {"pad_y": case.padding, "pad_x": case.padding}
    z, x, out = (planes * n for n in (case.z[0] * case.z[1], case.x[0] * case.x[1], case.cells))
    out_shape, taps = (case.batch, case.channels, *case.response), case.z[0] * case.z[1]

    def forward() -> None:
        z, x = zeros(case.z_shape, dtype), zeros(case.x_shape, dtype)
        launch_depthwise.forward(z=z, x=x, out=zeros(out_shape, dtype), **padding)

    def backward() -> None:
        grad, z, x = zeros(out_shape, dtype), zeros(case.z_shape, dtype), zeros(case.x_shape, dtype)
        launch_depthwise.template_gradient(grad=grad, x=x, dz=z.clone(), **padding)
        launch_depthwise.search_gradient(grad=grad, z=z, dx=x.clone(), **padding)

    yield Call(f"depthwise forward, {case.name}, {dtype}", forward, (z + x + out) * size, 2 * out * taps)
    yield Call(f"depthwise backward, {case.name}, {dtype}", backward, (2 * z + 2 * x + out) * size, 4 * out * taps)
