"""Calls of every launcher with Triton kernels at the shapes of design.md's table, as they run without tuning.

What static.py compiles for chips that need not be here. Float16 is compiled like bfloat16 and left out. Tensors hold
zeros wherever their values decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from siamfast.kernels import (
    augment,
    balanced_logistic_loss,
    crop_and_resize,
    shipped_warp,
    xcorr_balanced_loss,
    xcorr_depthwise,
    xcorr_launch,
)
from siamfast.kernels.launches import Call

from siamfast.ops.augment import no_draws
from siamfast.ops.balanced_logistic_loss import check_options

_DTYPES = {"u8": torch.uint8, "fp32": torch.float32, "bf16": torch.bfloat16}


class _Case(NamedTuple):
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
    _Case("siamfc track", 3, (6, 6), (22, 22), 256, templates=1),
    _Case("siamfc train", 8, (6, 6), (20, 20), 256),
    _Case("alexnet v2", 32, (17, 17), (49, 49), 32),
    _Case("siamrpn up-channel", 8, (4, 4), (20, 20), 256, 10),
    _Case("lighttrack pixelwise", 32, (1, 1), (16, 16), 96, 64),
)
_FUSED = (
    _Case("siamfc train", 8, (6, 6), (20, 20), 256),
    _Case("seed train", 64, (6, 6), (22, 22), 256),
)
_DEPTHWISE = (
    _Case("pysot resnet", 28, (5, 5), (29, 29), 256),
    _Case("pysot alexnet", 128, (4, 4), (20, 20), 256),
    _Case("siamcar", 32, (7, 7), (31, 31), 256),
    _Case("siamfc++ googlenet", 32, (3, 3), (25, 25), 256),
    _Case("nanotrack", 32, (4, 4), (16, 16), 96, padding=1),
)


def shipped() -> Iterator[Call]:
    """Every row of the table."""
    for case in _FULL:
        for dtype, exact in (("fp32", False), ("fp32", True), ("bf16", False)):
            yield from _full(dtype, exact, case)
    for case in _DEPTHWISE:
        for dtype in ("fp32", "bf16"):
            yield from _depthwise(dtype, case)
    for dtype in ("fp32", "bf16"):
        yield from _loss(dtype)
        for case in _FUSED:
            yield _fused(dtype, case)
    for dtype in ("u8", "fp32", "bf16"):
        yield from _crop(dtype)
    for dtype in ("fp32", "bf16"):
        yield _augment(dtype)
    yield from shipped_warp.calls()


def _zeros(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    return torch.zeros(shape, dtype=_DTYPES[dtype])


def _full(dtype: str, exact: bool, case: _Case) -> Iterator[Call]:
    size, plane = _DTYPES[dtype].itemsize, case.x[0] * case.x[1]
    z, x = (torch.Size(shape).numel() for shape in (case.z_shape, case.x_shape))
    out_shape = case.batch, case.kernels, *case.response
    out = case.batch * case.kernels * case.cells
    flop = 2 * case.batch * case.kernels * case.channels * case.z[0] * case.z[1] * case.cells
    rest: dict[str, Any] = {"rate": dtype, "tf32": not exact}
    name, wide = f"{case.name}, {'exact ' if exact else ''}{dtype}", plane * size % 16 == 0

    def forward() -> None:
        z, x = _zeros(case.z_shape, dtype), _zeros(case.x_shape, dtype)
        how = xcorr_launch.precision(x)
        blocks = xcorr_launch.forward_blocks(*case.z, *case.x, case.kernels, how)
        assert blocks is not None
        xcorr_launch.launch_forward(z, x, None, None, 1.0, 0.0, 0, 0, False, blocks)

    def gradients() -> None:
        grad, z, x = _zeros(out_shape, dtype), _zeros(case.z_shape, dtype), _zeros(case.x_shape, dtype)
        xcorr_launch.launch_gradients(grad, z, x, None, z.clone(), x.clone(), 1.0, 0, 0, False)

    def of_x() -> None:
        grad, z, dx = _zeros(out_shape, dtype), _zeros(case.z_shape, dtype), _zeros(case.x_shape, dtype)
        xcorr_launch.launch_search_gradient(grad, z, None, dx, 1.0, 0, 0, False)

    def of_z() -> None:
        grad, x, dz = _zeros(out_shape, dtype), _zeros(case.x_shape, dtype), _zeros(case.z_shape, dtype)
        xcorr_launch.launch_template_gradient(grad, x, dz, 1.0, 0, 0, False)

    how = xcorr_launch.EXACT if exact else "tf32" if dtype == "fp32" else "ieee"
    blocks = xcorr_launch.forward_blocks(*case.z, *case.x, case.kernels, how)
    assert blocks is not None
    vector = xcorr_launch.vector(case.x[1], case.x[0], plane, size, blocks)
    yield Call(f"xcorr forward, {name}", forward, (z + x + out) * size, flop, wide=vector * size == 16, **rest)
    together = xcorr_launch.gradients_config(case.kernels * case.z[0] * case.z[1], size, how, wide) is not None
    yield Call(
        f"xcorr dz and dx, {name}", gradients, (2 * z + 2 * x + out) * size, 2 * flop, wide=wide and together, **rest
    )
    yield Call(f"xcorr dx, {name}", of_x, (z + x + out) * size, flop, **rest)
    yield Call(f"xcorr dz, {name}", of_z, (z + x + out) * size, flop, wide=wide, **rest)


def _depthwise(dtype: str, case: _Case) -> Iterator[Call]:
    size, planes, padding = _DTYPES[dtype].itemsize, case.batch * case.channels, (case.padding, case.padding)
    z, x, out = (planes * n for n in (case.z[0] * case.z[1], case.x[0] * case.x[1], case.cells))
    out_shape, taps = (case.batch, case.channels, *case.response), case.z[0] * case.z[1]

    def forward() -> None:
        z, x = _zeros(case.z_shape, dtype), _zeros(case.x_shape, dtype)
        xcorr_depthwise.launch_forward(z, x, _zeros(out_shape, dtype), *padding)

    def backward() -> None:
        grad, z, x = _zeros(out_shape, dtype), _zeros(case.z_shape, dtype), _zeros(case.x_shape, dtype)
        xcorr_depthwise.launch_template_gradient(grad, x, z.clone(), *padding)
        xcorr_depthwise.launch_search_gradient(grad, z, x.clone(), *padding)

    yield Call(f"depthwise forward, {case.name}, {dtype}", forward, (z + x + out) * size, 2 * out * taps)
    yield Call(f"depthwise backward, {case.name}, {dtype}", backward, (2 * z + 2 * x + out) * size, 4 * out * taps)


def _loss(dtype: str) -> Iterator[Call]:
    """SiamFC's 17 x 17 responses of 64 samples; the labels made about the middle, about centres, or given."""
    shape = 64, 17, 17
    cells, size = 64 * 17 * 17, _DTYPES[dtype].itemsize

    def loss(labels: bool, centers: bool, balance: str, metric: str) -> None:
        options = check_options(8, 16, 0, metric, "half", balance)
        balanced_logistic_loss.launch(
            _zeros(shape, dtype), torch.zeros(shape) if labels else None, torch.zeros(64, 2) if centers else None,
            options,
        )  # fmt: skip

    for name, labels, centers, balance in (
        ("shared", False, False, "sample"),
        ("centers, batch", False, True, "batch"),
        ("given", True, False, "sample"),
    ):
        yield Call(
            f"balanced_logistic_loss, {name}, {dtype}",
            lambda a=(labels, centers, balance, "l2" if centers else "l1"): loss(*a),
            cells * (size + 4 + 4 * labels), 20 * cells,
        )  # fmt: skip


def _fused(dtype: str, case: _Case) -> Call:
    """Correlation, loss about the samples' centres, and both gradients."""
    size = _DTYPES[dtype].itemsize
    z, x = (torch.Size(shape).numel() for shape in (case.z_shape, case.x_shape))

    def both() -> None:
        z, x = _zeros(case.z_shape, dtype), _zeros(case.x_shape, dtype)
        xcorr_balanced_loss.launch(
            z, x, None, torch.zeros(1), 1.0, 0.0, 0, 0, None, torch.zeros(case.batch, 2),
            check_options(8, 16, 0, "l2", "half"), x.clone(),
        )  # fmt: skip

    return Call(
        f"xcorr_balanced_loss, {case.name}, {dtype}", both, (2 * z + 2 * x) * size + 12 * case.batch * case.cells,
        6 * case.batch * case.channels * case.z[0] * case.z[1] * case.cells, rate=dtype,
        wide=case.x[0] * case.x[1] * size % 16 == 0,
    )  # fmt: skip


def _crop(dtype: str) -> Iterator[Call]:
    """Three 255-pixel crops of colour, from windows of the same size; the image's mean is not the kernel's."""
    cells = 3 * 255 * 255 * 3

    def crop(rule: int, border: int) -> None:
        windows = torch.tensor(
            [[100.0, 200.0, 255.0, 255.0], [500.0, 60.0, 255.0, 255.0], [900.0, 400.0, 255.0, 255.0]]
        )
        crop_and_resize.launch(
            _zeros((1, 3, 720, 1280), dtype), windows.double(), torch.zeros(1, 3), 255, 255, border, rule,
            torch.contiguous_format,
        )  # fmt: skip

    for rule, border in ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0)):
        yield Call(
            f"crop_and_resize, rule {rule}, border {border}, {dtype}", lambda r=rule, b=border: crop(r, b),
            2 * cells * _DTYPES[dtype].itemsize, 8 * cells,
        )  # fmt: skip


def _augment(dtype: str) -> Call:
    """64 search crops of 255 pixels to 239, a step near 1 and a blur of sigma = 2 pixels."""
    planes, size, (rows, columns, high, wide) = 64 * 3, _DTYPES[dtype].itemsize, (16, 32, 32, 64)
    flop = 2 * (planes * 15 * 8) * rows * wide * (high + columns)  # of 15 x 8 tiles and the pixels under them

    def augmented() -> None:
        draws = no_draws(64, (255, 255))
        draws[:, 4] = 2.0
        augment.launch(
            _zeros((64, 3, 255, 255), "u8"), draws, 239, 239, [128.0] * 3, [60.0] * 3, _DTYPES[dtype]
        )  # fmt: skip

    return Call(
        f"augment, 64 x 255 to 239, {dtype}", augmented, planes * (255 * 255 + size * 239 * 239), flop, rate="bf16"
    )
