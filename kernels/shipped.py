"""Every Triton kernel in the configurations that run without tuning, at the shapes of design.md's table.

What static.py compiles for chips that need not be here. Float16 is compiled like bfloat16 and left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from siamfast.kernels import (
    augment,
    balanced_logistic_loss,
    crop_and_resize,
    shipped_warp,
    xcorr,
    xcorr_backward,
    xcorr_balanced_loss,
    xcorr_depthwise,
    xcorr_launch,
)
from siamfast.kernels.static import CHIPS, Build

_SIZES = {"u8": 1, "fp32": 4, "bf16": 2}


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
    def cells(self) -> int:
        return (self.x[0] + 2 * self.padding - self.z[0] + 1) * (self.x[1] + 2 * self.padding - self.z[1] + 1)


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


def shipped(chip: int) -> Iterator[Build]:
    """Every kernel, as it is launched on sm_`chip`."""
    for case in _FULL:
        for dtype, precision in (("fp32", "tf32"), ("fp32", xcorr_launch.EXACT), ("bf16", "ieee")):
            yield from _full(dtype, precision, case, chip)
    for case in _DEPTHWISE:
        for dtype in ("fp32", "bf16"):
            yield from _depthwise(dtype, case)
    for dtype in ("fp32", "bf16"):
        yield from _loss(dtype)
        for case in _FUSED:
            yield from _fused(dtype, case, chip)
    for dtype in ("u8", "fp32", "bf16"):
        yield from _crop(dtype)
    for dtype in ("fp32", "bf16"):
        yield _augment(dtype)
    yield from shipped_warp.builds(chip)


def _options(config: dict[str, int]) -> dict[str, int]:
    return {k: config[k] for k in ("num_warps", "num_stages")}


def _tiles(config: dict[str, int]) -> dict[str, int]:
    return {k: v for k, v in config.items() if k.startswith("BLOCK")}


def _full(dtype: str, precision: str, case: _Case, chip: int) -> Iterator[Build]:
    size, (hz, wz), (height, width) = _SIZES[dtype], case.z, case.x
    plane = height * width
    taps = case.kernels * hz * wz
    z = (case.templates or case.batch) * taps * case.channels
    x, out = (case.batch * n for n in (plane * case.channels, case.kernels * case.cells))
    flop = 2 * case.batch * case.kernels * case.channels * hz * wz * case.cells
    common: dict[str, Any] = {"HZ": hz, "WZ": wz, "HX": height, "WX": width, "PH": 0, "PW": 0, "UPCAST": False}
    common["PRECISION"] = precision
    name = f"{case.name}, {'exact ' if precision == xcorr_launch.EXACT else ''}{dtype}"
    blocks = xcorr_launch.forward_blocks(hz, wz, height, width, case.kernels, precision)
    assert blocks is not None
    vector = xcorr_launch.vector(width, height, plane, size, blocks)
    config = xcorr_launch.forward_config(blocks, case.channels, size, precision, chip, CHIPS[chip].shared_block)
    yield Build(
        f"xcorr forward, {name}", xcorr.full_forward_kernel,
        {"z_ptr": dtype, "x_ptr": dtype, "scale_ptr": "fp32", "bias_ptr": "fp32", "out_ptr": dtype},
        {**common, **blocks, **_tiles(config), "SCALES": 0, "BIASES": 0, "x_c": plane, "x_x": 1, "C": case.channels,
         "ALL_PAIRS": False, "SPLIT": 1, "VECTOR": vector},
        _options(config), (z + x + out) * size, flop, rate=dtype, wide=vector * size == 16,
    )  # fmt: skip
    wide = plane * size % 16 == 0
    grads = {"grad_ptr": dtype, "scale_ptr": "fp32"}
    common["FLAT"] = True
    both = xcorr_launch.gradients_config(taps, size, precision, wide)
    if both is not None:
        yield Build(
            f"xcorr dz and dx, {name}", xcorr_backward.gradients_kernel,
            grads | {"z_ptr": dtype, "x_ptr": dtype, "dz_ptr": dtype, "dx_ptr": dtype},
            {**common, **_tiles(both), "SCALES": 0, "ALL_PAIRS": False, "x_c": plane, "x_x": 1, "dx_c": plane,
             "dx_x": 1},
            _options(both), (2 * z + 2 * x + out) * size, 2 * flop, rate=dtype, wide=wide,
        )  # fmt: skip
    config = xcorr_launch.search_config(size, precision)
    yield Build(
        f"xcorr dx, {name}", xcorr_backward.search_gradient_kernel,
        grads | {"z_ptr": dtype, "dx_ptr": dtype},
        {**common, **_tiles(config), "SCALES": 0, "ALL_PAIRS": False, "dx_c": plane, "dx_x": 1},
        _options(config), (z + x + out) * size, flop, rate=dtype,
    )  # fmt: skip
    config = xcorr_launch.template_config(size, precision)
    yield Build(
        f"xcorr dz, {name}", xcorr_backward.template_gradient_kernel,
        {"grad_ptr": dtype, "x_ptr": dtype, "dz_ptr": dtype}, {**common, **_tiles(config), "x_c": plane, "x_x": 1},
        _options(config), (z + x + out) * size, flop, rate=dtype, wide=wide,
    )  # fmt: skip


def _depthwise(dtype: str, case: _Case) -> Iterator[Build]:
    size, (hz, wz), planes = _SIZES[dtype], case.z, case.batch * case.channels
    z, x, out = (planes * n for n in (hz * wz, case.x[0] * case.x[1], case.cells))
    common = {"PH": case.padding, "PW": case.padding, "HZ": hz, "WZ": wz, "z_x": 1, "x_x": 1}
    yield Build(
        f"depthwise forward, {case.name}, {dtype}", xcorr_depthwise.depthwise_forward_kernel,
        {"z_ptr": dtype, "x_ptr": dtype, "out_ptr": dtype},
        {**common, "BLOCK_P": xcorr_depthwise.FORWARD_PLANES, "BLOCK_Q": xcorr_depthwise.FORWARD_CELLS, "out_x": 1},
        {"num_warps": xcorr_depthwise.FORWARD_WARPS}, (z + x + out) * size, 2 * out * hz * wz,
    )  # fmt: skip
    yield Build(
        f"depthwise backward, {case.name}, {dtype}", xcorr_depthwise.depthwise_backward_kernel,
        {"grad_ptr": dtype, "z_ptr": dtype, "x_ptr": dtype, "dz_ptr": dtype, "dx_ptr": dtype},
        {**common, **xcorr_depthwise.backward_blocks(hz, wz), "NEED_Z": True, "NEED_X": True, "grad_x": 1, "dx_x": 1},
        {"num_warps": xcorr_depthwise.BACKWARD_WARPS}, (2 * z + 2 * x + out) * size, 4 * out * hz * wz,
    )  # fmt: skip


def _loss(dtype: str) -> Iterator[Build]:
    """SiamFC's 17 x 17 responses of 64 samples; the labels made about the middle, about centres, or given."""
    cells, numbers = 64 * 17 * 17, ("stride", "r_pos", "r_far", "between", "neg_weight", "neutral", "factor")
    for name, labels, centers, balance in (
        ("shared", 0, False, 0),
        ("centers, batch", 0, True, 1),
        ("given", 2, False, 0),
    ):
        yield Build(
            f"balanced_logistic_loss, {name}, {dtype}", balanced_logistic_loss.balanced_logistic_loss_kernel,
            {"scores_ptr": dtype, "labels_ptr": "fp32", "centers_ptr": "fp32", "losses_ptr": "fp32",
             "slope_ptr": "fp32"},
            {"HEIGHT": 17, "WIDTH": 17, "LABELS": labels, "CENTERS": centers, "L2": centers, "BALANCE": balance,
             "TOTAL": True, **balanced_logistic_loss.blocks(17 * 17)},
            {"num_warps": balanced_logistic_loss.NUM_WARPS, "enable_fp_fusion": False},
            cells * (_SIZES[dtype] + 4 + 4 * (labels == 2)), 20 * cells, floats=numbers,
        )  # fmt: skip


def _fused(dtype: str, case: _Case, chip: int) -> Iterator[Build]:
    """Correlation, loss about the samples' centres, and both gradients."""
    size, (hz, wz), (height, width) = _SIZES[dtype], case.z, case.x
    product = {"fp32": "tf32", "bf16": "ieee"}[dtype]
    config = xcorr_balanced_loss.config(
        hz, wz, height, width, case.channels, size, product, chip, CHIPS[chip].shared_block
    )
    assert config is not None
    z, x = (case.batch * case.channels * n for n in (hz * wz, height * width))
    plane = height * width
    vector = xcorr_launch.vector(width, height, plane, size, config | {"BLOCK_Q": config["FORWARD_Q"]})
    maps = dict.fromkeys(("scale_ptr", "bias_ptr", "labels_ptr", "centers_ptr", "scores_ptr", "slope_ptr", "sums_ptr"))
    numbers = ("alpha", "beta", "stride", "r_pos", "r_far", "between", "neg_weight", "neutral", "factor")
    yield Build(
        f"xcorr_balanced_loss, {case.name}, {dtype}", xcorr_balanced_loss.xcorr_balanced_loss_kernel,
        {**dict.fromkeys(("z_ptr", "x_ptr", "dz_ptr", "dx_ptr"), dtype), **dict.fromkeys(maps, "fp32")},
        {**{k: v for k, v in config.items() if not k.startswith("num")}, "HZ": hz, "WZ": wz, "HX": height,
         "WX": width, "PH": 0, "PW": 0, "SCALE": False, "BIAS": True, "LABELS": 0, "CENTERS": True, "L2": True,
         "BALANCE": 0, "FLAT": True, "VECTOR": vector, "PRECISION": product, "UPCAST": False, "C": case.channels,
         "x_c": plane, "x_x": 1, "dx_c": plane, "dx_x": 1},
        _options(config), (2 * z + 2 * x) * size + 12 * case.batch * case.cells,
        6 * case.batch * case.channels * hz * wz * case.cells, rate=dtype, wide=vector * size == 16, floats=numbers,
    )  # fmt: skip


def _crop(dtype: str) -> Iterator[Build]:
    """Three 255-pixel crops of colour, from windows of the same size; the image's mean is not the kernel's."""
    cells = 3 * 255 * 255 * 3
    for rule, border in ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0)):
        yield Build(
            f"crop_and_resize, rule {rule}, border {border}, {dtype}", crop_and_resize.crop_and_resize_kernel,
            {"image_ptr": dtype, "windows_ptr": "fp64", "fill_ptr": "fp32", "out_ptr": dtype},
            {"BORDER": border, "RULE": rule, "WHOLE": dtype == "u8", "BLOCK": crop_and_resize.BLOCK},
            {"num_warps": crop_and_resize.NUM_WARPS, "enable_fp_fusion": False}, 2 * cells * _SIZES[dtype], 8 * cells,
        )  # fmt: skip


def _augment(dtype: str) -> Build:
    """64 search crops of 255 pixels to 239, a step near 1 and a blur of up to 3 sigma = 6 pixels."""
    planes, size, side, pixels = 64 * 3, _SIZES[dtype], augment.BLOCK, 64
    flop = 2 * (planes * 8 * 8) * side * pixels * (pixels + side)  # of 8 x 8 tiles
    return Build(
        f"augment, 64 x 255 to 239, {dtype}", augment.augment_kernel,
        {"image_ptr": "u8", "draws_ptr": "fp32", "out_ptr": dtype},
        {"BLOCK": side, "PIXELS": pixels, "STRIP": augment.STRIP, "EXACT": dtype == "fp32"},
        {"num_warps": augment.NUM_WARPS}, planes * (255 * 255 + size * 239 * 239), flop, rate="bf16",
        floats=("mean_r", "mean_g", "mean_b", "rate_r", "rate_g", "rate_b"),
    )  # fmt: skip
