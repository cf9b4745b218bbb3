"""Calls of the correlations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

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
