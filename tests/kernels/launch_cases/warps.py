"""Calls of the correspondence warp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from siamfast.kernels.correspondence_warp.launch import MOST_CHANNELS

import siamfast
from benchmarks import bench_correspondence_warp
from tests.kernels.launch_cases.case import FLOATS, Case, zeros


def warp(
    query: torch.Tensor,
    keys: torch.Tensor,
    k: int,
    dtype: torch.dtype,
    bias: bool = False,
    details: bool = False,
    backward: bool = True,
    **options: Any,
) -> None:
    n, t, *_, h, w = keys.shape
    values = zeros((n, t, k, h, w), dtype)
    key_bias = zeros((n, t, h, w), torch.float32) if bias else None
    returns = ("values", "entropy", "lse") if details else ("values",)
    outputs = siamfast.correspondence_warp(query, keys, values, key_bias=key_bias, returns=returns, **options)
    outputs = outputs if details else (outputs,)
    if not backward:
        return
    inputs = [t for t in (query, keys, values, key_bias) if t is not None]
    torch.autograd.grad(outputs[:2], inputs, [torch.zeros_like(f) for f in outputs[:2]], allow_unused=True)


MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "radius 12": {"radius": 12},
    "circle 12": {"radius": 12, "window": "circle"},
    "top 10": {"topk": 10},
    "circle 12, top 10": {"radius": 12, "window": "circle", "topk": 10},
}


def warps() -> Iterator[Case]:
    products = ((torch.float32, True, True), (torch.float32, False, True), (torch.float32, True, False))
    for shape in bench_correspondence_warp.SHAPES:
        for mode, options in MODES.items():
            for dtype, normalize, tf32 in products:
                n, c, h, w, k, t = shape
                name = f"{shape.name}, {mode}, {normalize=}, {tf32=}"
                yield Case(
                    "warp " + mode,
                    name,
                    lambda s=((n, c, h, w), (n, t, c, h, w)), k=k, d=dtype, z=normalize, o=options: warp(
                        zeros(s[0], d), zeros(s[1], d), k, d, normalize=z, **o
                    ),
                    tf32,
                )
    yield Case(
        "warp circle 3",
        "of another grid",
        lambda: warp(
            zeros((1, 16, 8, 8), FLOATS[0]),
            zeros((1, 1, 16, 12, 12), FLOATS[0]),
            2,
            FLOATS[0],
            radius=3,
            window="circle",
        ),
        always=True,
    )
    # What a grid allows, and one more, which plain PyTorch serves.
    for k in (MOST_CHANNELS, MOST_CHANNELS + 1):
        yield Case(
            "warp plain",
            f"{k} channels of values",
            lambda k=k: warp(zeros((1, 4, 1, 1), FLOATS[0]), zeros((1, 1, 4, 1, 1), FLOATS[0]), k, FLOATS[0]),
            always=True,
        )
    yield from _wide_rows()
    for c, k, dtype in ((512, 20, FLOATS[0]), (320, 70, FLOATS[1])):  # the slopes of these had 8 and 16 bytes (sm_120)
        yield Case(
            "warp top",
            f"{c} channels, {k} of values, {dtype}",
            lambda c=c, k=k, d=dtype: warp(zeros((1, c, 32, 32), d), zeros((1, 1, c, 32, 32), d), k, d, topk=8),
            always=True,
        )
    samples = (1 << 16) + 1
    for mode, options in (("plain", {}), ("top 1", {"topk": 1})):
        yield Case(
            "warp " + mode,
            f"{samples} samples",
            lambda o=options: warp(
                zeros((samples, 1, 1, 1), FLOATS[0]), zeros((samples, 1, 1, 1, 1), FLOATS[0]), 1, FLOATS[0], **o
            ),
            always=True,
        )


def _wide_rows() -> Iterator[Case]:
    """More channels than the kernels of features.py keep in registers, up to ResNet-50's 2048."""
    for c in (513, 640, 1024, 2048):
        for dtype in FLOATS:
            for layout in ("plain", "transposed", "cut out"):
                yield Case(
                    "warp plain",
                    f"{c} channels, {layout}, {dtype}",
                    lambda c=c, d=dtype, o=layout: warp(
                        zeros((1, c, 15, 15), d, o), zeros((1, 2, c, 15, 15), d, o), 2, d
                    ),
                    always=(c, dtype, layout) == (2048, FLOATS[0], "plain"),
                )


def random_warp(rng: np.random.Generator) -> Case:
    n, t = int(rng.choice([1, 1, 2])), int(rng.choice([1, 1, 2, 4]))
    k = int(rng.integers(1, 17 if rng.random() < 0.7 else 71))
    c = int(rng.choice([1, 3, 16, 40, 64, 128, 129, 200, 256, 257, 320, 512]))
    h, w = (int(v) for v in rng.integers(1, 41, 2))
    hr, wr = (h, w) if rng.random() < 0.6 else (int(v) for v in rng.integers(1, 41, 2))
    dtype, layout = FLOATS[rng.integers(3)], str(rng.choice(["plain", "channels_last", "cut out", "shifted"]))
    options: dict[str, Any] = {"normalize": bool(rng.random() < 0.7), "bias": bool(rng.random() < 0.3)}
    mode = str(rng.choice(["plain", "window", "top", "window, top"]))
    if "window" in mode:
        options["radius"] = float(max(hr / h, wr / w) + rng.choice([1, 5, 12]))
        options["window"] = str(rng.choice(["square", "circle"]))
    if "top" in mode:
        options["topk"] = int(rng.choice([1, 3, 10, 17, 32]))
    tf32, options["details"] = bool(rng.random() < 0.6), bool(rng.random() < 0.3)
    name = f"{(n, c, h, w)} {layout}, keys {(t, hr, wr)}, K={k}, {dtype}, {tf32=}, {options}"

    def call() -> None:
        query, keys = zeros((n, c, h, w), dtype, layout), zeros((n, t, c, hr, wr), dtype)
        warp(query, keys, k, dtype, **options)

    return Case("warp " + mode, name, call, tf32)
