"""Calls of the correlations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from siamfast.kernels.xcorr.launch_backward import MOST_CELLS, MOST_CHANNELS, MOST_TAPS

import siamfast
from benchmarks import bench_xcorr
from tests.kernels.launch_cases.case import FLOATS, LAYOUTS, Case, backward, zeros


def correlate(
    z: torch.Tensor,
    x: torch.Tensor,
    kind: str,
    padding: int = 0,
    pairing: str = "cycle",
    scaled: bool = False,
    gradients: str = "zx",
) -> None:
    if kind == "pixelwise":  # kernels of one cell, as LightTrack's `pixel_corr` makes them
        z, kind = z.flatten(2).transpose(1, 2).reshape(len(z), -1, 1, 1), "full"
    if kind == "depthwise":
        out = siamfast.xcorr_depthwise(z, x, padding=padding)
    else:
        each = z.shape[1] // x.shape[1]
        scale = torch.ones(each, dtype=x.dtype, requires_grad=True) if scaled else 1.0
        bias = torch.zeros(each, dtype=x.dtype, requires_grad=True) if scaled else None
        out = siamfast.xcorr(z, x, scale=scale, bias=bias, padding=padding, pairing=pairing)
    backward(out, *(t for name, t in (("z", z), ("x", x)) if name in gradients))


def correlations() -> Iterator[Case]:
    for shape in bench_xcorr.SHAPES:
        for dtype, tf32 in ((torch.float32, True), (torch.float32, False), (torch.bfloat16, True)):
            if shape.kind == "depthwise" and not tf32:
                continue
            name = f"{shape.name}, {'' if tf32 else 'exact '}{dtype}"
            yield Case(
                "xcorr " + shape.kind,
                name,
                lambda s=shape, d=dtype: correlate(zeros(s.z, d), zeros(s.x, d), s.kind, s.padding),
                tf32,
            )
    yield from _large_templates()
    yield from _many_planes()
    yield Case(
        "xcorr depthwise",
        "templates of 6x5 on rows of 71, shifted",  # its dx had 8 bytes on the stack (sm_120, Triton 3.6)
        lambda: correlate(
            zeros((2, 17, 6, 5), torch.float16, "shifted"),
            zeros((2, 17, 33, 71), torch.float16, "shifted"),
            "depthwise",
        ),
    )
    yield from _grid_limits()
    yield from _gradients_that_spilled()
    for layout in ("shifted", "cut out"):
        for dtype in FLOATS:
            yield Case(
                "xcorr full",
                f"160 taps of a plane without 16-byte loads, {layout}, {dtype}",
                lambda d=dtype, o=layout: correlate(
                    zeros((2, 34, 8, 5), d), zeros((2, 17, 40, 13), d, o), "full", 3, "all"
                ),
            )


def _gradients_that_spilled() -> Iterator[Case]:
    """By 8 and 48 bytes on sm_80, when more than 64 taps were one program's."""
    drawn = (
        ((3, 48, 5, 1), (6, 3, 39, 27), "transposed", True),
        ((2, 256, 3, 9), (2, 64, 37, 16), "channels_last", False),
    )
    for z, x, layout, scaled in drawn:
        yield Case(
            "xcorr full",
            f"templates {z}, searches {x} {layout}",
            lambda z=z, x=x, o=layout, scaled=scaled: correlate(
                zeros(z, torch.bfloat16, "channels_last"), zeros(x, torch.bfloat16, o), "full", scaled=scaled
            ),
        )


def _large_templates() -> Iterator[Case]:
    """Depthwise, with the most sums a thread, of templates taken at once and in parts; with a border of rows (17 is no
    multiple of 4, 5 or 6)."""
    for hz, wz in ((8, 7), (2, 28), (1, 56), (14, 16), (9, 40), (31, 31)):
        for dtype in (torch.float32, torch.float16):
            for layout in ("plain", "channels_last"):
                z, x = (1, 16, hz, wz), (5, 16, hz + 16, wz + 16)
                yield Case(
                    "xcorr depthwise",
                    f"templates of {hz}x{wz}, {layout}, {dtype}",
                    lambda z=z, x=x, d=dtype, o=layout: correlate(zeros(z, d), zeros(x, d, o), "depthwise"),
                    always=(hz, dtype, layout) == (31, torch.float16, "plain"),
                )


def _many_planes() -> Iterator[Case]:
    """Depthwise, with templates taken at once and in parts, and one warp for a plane of its gradient."""
    for hz, wz in ((8, 7), (14, 16)):
        z, x = (128, 16, hz, wz), (128, 16, hz + 16, wz + 16)
        yield Case(
            "xcorr depthwise",
            f"2048 templates of {hz}x{wz}",
            lambda z=z, x=x: correlate(zeros(z, torch.float32), zeros(x, torch.float32), "depthwise"),
        )


def _grid_limits() -> Iterator[Case]:
    """What the grids of the gradients allow, and one more, which plain PyTorch serves; a long row for the depthwise
    correlation, whose programs have more cells the more rows there are."""
    one = zeros((1, 1, 1, 1), torch.float32)
    for count in (MOST_CELLS, MOST_CELLS + 1):
        row, kernels = (1, 1, 1, count), (1, count, 1, 1)
        yield Case(
            "xcorr full",
            f"{count} pixels",
            lambda row=row: correlate(one, zeros(row, torch.float32), "full"),
            tf32=False,
            always=True,
        )
        yield Case(
            "xcorr full",
            f"{count} kernels",
            lambda kernels=kernels: correlate(zeros(kernels, torch.float32), one, "full"),
            tf32=False,
            always=True,
        )
    for channels in (MOST_CHANNELS, MOST_CHANNELS + 1):
        shape = (1, channels, 1, 1)
        yield Case(
            "xcorr full",
            f"{channels} channels",
            lambda s=shape: correlate(zeros(s, torch.float32), zeros(s, torch.float32), "full"),
            tf32=False,
            always=True,
        )
    yield Case(
        "xcorr depthwise",
        "8,388,609 pixels",
        lambda: correlate(one, zeros((1, 1, 1, (1 << 23) + 1), torch.float32), "depthwise"),
        always=True,
    )


def random_correlation(rng: np.random.Generator) -> Case:
    kind, dtype = str(rng.choice(["full", "full", "depthwise", "pixelwise"])), FLOATS[rng.integers(3)]
    channels = int(rng.choice([1, 3, 17, 64, 96, 256, 300]))
    hz, wz = (int(v) for v in rng.integers(1, 10, 2))
    padding = int(rng.choice([0, 0, 0, 1, 3])) if kind != "pixelwise" else 0
    hx, wx = (int(side + rng.integers(0, 40)) for side in (hz, wz))
    templates, times = int(rng.choice([1, 1, 2, 3])), int(rng.choice([1, 1, 2]))
    kernels = int(rng.choice([1, 1, 2, 10, 16])) if kind == "full" else 1
    layout, other = (str(v) for v in rng.choice(LAYOUTS, 2))
    pairing = str(rng.choice(["cycle", "cycle", "all"])) if kind == "full" else "cycle"
    scaled, gradients, tf32 = (
        bool(rng.random() < 0.3),
        str(rng.choice(["zx", "zx", "z", "x"])),
        bool(rng.random() < 0.5),
    )
    z, x = (templates, kernels * channels, hz, wz), (templates * times, channels, hx, wx)
    name = f"{kind} {z} {layout}, {x} {other}, {dtype}, tf32={tf32}, {padding=}, {pairing}, {scaled=}, {gradients}"

    def call() -> None:
        correlate(zeros(z, dtype, layout), zeros(x, dtype, other), kind, padding, pairing, scaled, gradients)

    return Case("xcorr " + kind, name, call, tf32)


def random_gradients(rng: np.random.Generator) -> Case:
    """Both gradients of up to MOST_TAPS taps, which are one program's; of many programs and of few."""
    dtype, (hz, wz) = FLOATS[int(rng.choice([0, 0, 1, 2]))], (int(v) for v in rng.integers(1, 9, 2))
    kernels = min(MOST_TAPS // (hz * wz), int(rng.choice([1, 1, 2, 3, 5, 16])))
    templates, times, channels = (int(rng.choice(of)) for of in ((1, 2, 40), (1, 1, 2), (1, 17, 65, 128, 255, 256)))
    pairing, layout, other = (str(rng.choice(of)) for of in (("cycle", "cycle", "all"), LAYOUTS, ("plain", *LAYOUTS)))
    if pairing == "all":
        templates, kernels = kernels, 1
    padding, scaled = int(rng.choice([0, 0, 1, 3])), bool(rng.random() < 0.3)
    hx, wx = (int(side + rng.integers(0, 40)) for side in (hz, wz))
    if rng.random() < 0.3:  # planes that are read by 16 bytes
        hx, wx = -(-hx // 4) * 4, -(-wx // 4) * 4
    z, x = (templates, kernels * channels, hz, wz), (templates * times, channels, hx, wx)
    name = f"{z} {layout}, {x} {other}, {dtype}, {padding=}, {pairing}, {scaled=}"

    def call() -> None:
        correlate(zeros(z, dtype, layout), zeros(x, dtype, other), "full", padding, pairing, scaled)

    return Case("xcorr full", f"both gradients: {name}", call)
