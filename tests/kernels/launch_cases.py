"""Calls of every op with Triton kernels, forward and backward: the benchmark's table shapes, and random ones.

A call's tensors hold zeros: only their shapes, dtypes, strides and addresses decide what is launched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

import siamfast
from benchmarks import bench_correspondence_warp, bench_xcorr
from siamfast.ops.augment import no_draws
from siamfast.ops.balanced_logistic_loss import check_options
from siamfast.ops.xcorr import make_call
from siamfast.ops.xcorr_balanced_loss import triton as fused

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class Case(NamedTuple):
    op: str
    name: str
    call: Callable[[], Any]
    tf32: bool = True  # whether float32 products may be TF32's
    always: bool = False  # in a sample too


def zeros(shape: tuple[int, ...], dtype: torch.dtype, layout: str = "plain") -> torch.Tensor:
    """A tensor that wants a gradient, laid out in memory as `layout` says."""
    if layout == "channels_last":
        made = torch.zeros(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
    elif layout == "transposed":
        made = torch.zeros((*shape[:-2], shape[-1], shape[-2]), dtype=dtype).transpose(-1, -2)
    elif layout == "cut out":
        larger = torch.zeros((*shape[:-2], shape[-2] + 3, shape[-1] + 5), dtype=dtype)
        made = larger[..., 1 : shape[-2] + 1, 3 : shape[-1] + 3]
    elif layout == "shifted":  # contiguous, its first element at an odd address
        made = torch.zeros(int(np.prod(shape)) + 1, dtype=dtype)[1:].view(shape)
    else:
        made = torch.zeros(shape, dtype=dtype)
    return made.requires_grad_(made.is_floating_point())


LAYOUTS = ("plain", "channels_last", "transposed", "cut out", "shifted")


def backward(out: torch.Tensor, *inputs: torch.Tensor | None) -> None:
    torch.autograd.grad(out, [t for t in inputs if t is not None], torch.zeros_like(out), allow_unused=True)


# -------------------------------------------------------------------------------------------------------- correlations
def correlate(
    z: torch.Tensor,
    x: torch.Tensor,
    kind: str,
    padding: int = 0,
    pairing: str = "cycle",
    scaled: bool = False,
    gradients: str = "zx",
) -> None:
    if kind == "pixelwise":  # what the public op makes of it on a GPU
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


# --------------------------------------------------------------------------------------------------------------- losses
def joint_loss(
    z: torch.Tensor,
    x: torch.Tensor,
    padding: int = 0,
    centers: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    scaled: bool = True,
    **options: Any,
) -> None:
    """Correlation and loss, by the fused kernel where it serves, with backward; its slopes scaled as backward does."""
    number = torch.ones((), requires_grad=True)
    made = make_call(z, x, number if scaled else 1.0, number.detach() if scaled else None, padding)
    chosen = check_options(8, 16, 0, options.get("metric", "l1"), "half", options.get("balance", "sample"))
    if not fused.fits(made.z, made.x, made.numbers.pad_y, made.numbers.pad_x, labels, centers, chosen):
        return
    loss, _ = fused.loss_and_scores(made, labels, centers, chosen)
    backward(loss, z, x)


def loss(scores: torch.Tensor, labels: torch.Tensor | None, centers: torch.Tensor | None, **options: Any) -> None:
    backward(siamfast.balanced_logistic_loss(scores, labels, centers=centers, **options), scores)


def losses() -> Iterator[Case]:
    for batch in (1, 8, 32, 64, 256):
        yield Case("loss", f"17x17, B={batch}", lambda n=batch: loss(zeros((n, 1, 17, 17), torch.float32), None, None))
    for shape in bench_xcorr.SHAPES:
        if shape.kind == "full" and shape.z[:2] == shape.x[:2]:
            for dtype, tf32 in ((torch.float32, True), (torch.float32, False), (torch.bfloat16, True)):
                yield Case(
                    "joint loss",
                    f"{shape.name}, {'' if tf32 else 'exact '}{dtype}",
                    lambda s=shape, d=dtype: joint_loss(zeros(s.z, d), zeros(s.x, d)),
                    tf32,
                )


def random_loss(rng: np.random.Generator) -> Case:
    samples, dtype = int(rng.choice([1, 2, 7, 100])), FLOATS[rng.integers(3)]
    size = int(rng.integers(1, 120)), int(rng.integers(1, 120))
    options = {
        "balance": str(rng.choice(["sample", "batch", "cells"])),
        "metric": str(rng.choice(["l1", "l2"])),
        "reduction": str(rng.choice(["mean", "sum", "none"])),
        "neutral": str(rng.choice(["half", "ignore", "half-weighted"])),
    }
    kind = int(rng.integers(4))
    labels = torch.zeros(size) if kind == 1 else torch.zeros(samples, 1, *size) if kind == 2 else None
    centers = torch.zeros(samples, 2) if kind == 3 else None
    layout = str(rng.choice(LAYOUTS))
    name = f"({samples}, 1, {size}) {layout} {dtype}, {('made', 'one map', 'maps', 'centers')[kind]}, {options}"
    return Case("loss", name, lambda: loss(zeros((samples, 1, *size), dtype, layout), labels, centers, **options))


def random_joint_loss(rng: np.random.Generator) -> Case:
    samples, dtype, tf32 = int(rng.choice([1, 2, 8])), FLOATS[rng.integers(3)], bool(rng.random() < 0.5)
    channels = int(rng.choice([1, 3, 64, 256, 300]))
    z = samples, channels, *(int(v) for v in rng.integers(1, 8, 2))
    x = samples, channels, *(int(side + rng.integers(0, 24)) for side in z[2:])
    padding, layout, other = int(rng.choice([0, 0, 1])), *(str(v) for v in rng.choice(LAYOUTS, 2))
    kind, options = int(rng.integers(3)), {"metric": str(rng.choice(["l1", "l2"]))}
    cells = [side + 2 * padding - k + 1 for side, k in zip(x[2:], z[2:], strict=True)]
    labels = torch.zeros(1, *cells) if kind == 1 else None
    centers = torch.zeros(samples, 2) if kind == 2 else None
    if centers is None:
        options["balance"] = str(rng.choice(["sample", "batch", "cells"]))
    name = f"{z} {layout}, {x} {other}, {dtype}, tf32={tf32}, {padding=}, {('made', 'a map', 'centers')[kind]}"

    def call() -> None:
        joint_loss(zeros(z, dtype, layout), zeros(x, dtype, other), padding, centers, labels, kind != 1, **options)

    return Case("joint loss", name, call, tf32)


# --------------------------------------------------------------------------------------------------------------- images
def crop(image: torch.Tensor, windows: int, out: Any, **options: Any) -> None:
    with torch.no_grad():
        siamfast.crop_and_resize(image, [[5.0, 5.0]] * windows, [40.0] * windows, out, layout="chw", **options)


def augmented(images: torch.Tensor, out: Any, dtype: torch.dtype, step: float, blur: float) -> None:
    draws = no_draws(len(images), tuple(images.shape[2:]))
    draws[:, 2:4], draws[:, 4] = step, blur
    siamfast.augment(images, draws, out_size=out, mean=118, std=60, dtype=dtype)


def images() -> Iterator[Case]:
    for side, windows, out in ((640, 3, 255), (720, 1, 127), (1080, 3, 303), (255, 64, 239)):
        for dtype in (torch.uint8, *FLOATS):
            picture = functools.partial(zeros, (3, side, side), dtype)
            yield Case(
                "crop", f"{side} to {windows} x {out}, {dtype}", lambda p=picture, n=windows, o=out: crop(p(), n, o)
            )
    many_images = (1 << 16) + 1  # more than a grid's y and z hold
    yield Case(
        "crop", f"{many_images} windows", lambda: crop(zeros((1, 8, 8), torch.uint8), many_images, 1), always=True
    )
    yield Case("crop", "of 8192 x 8192", lambda: crop(zeros((1, 8, 8), torch.uint8), 1, 8192))
    for dtype in FLOATS:
        for side, out in ((255, 239), (127, 127)):
            for step, blur in ((1.0, 0.0), (1.05, 2.0), (2.0, 3.0), (0.5, 0.0)):
                picture = functools.partial(zeros, (32, 3, side, side), torch.uint8)
                yield Case(
                    "augment",
                    f"{side} to {out}, {step=}, {blur=}, {dtype}",
                    lambda p=picture, o=out, d=dtype, s=step, b=blur: augmented(p(), o, d, s, b),
                )
    yield Case(
        "augment",
        f"{many_images} images",
        lambda: augmented(zeros((many_images, 3, 2, 2), torch.uint8), 1, FLOATS[0], 1.0, 0.0),
        always=True,
    )


def random_crop(rng: np.random.Generator) -> Case:
    count, channels = int(rng.choice([1, 1, 2, 5])), int(rng.choice([1, 3, 4]))
    shape = count, channels, *(int(v) for v in rng.integers(1, 90, 2))
    dtype, layout = (torch.uint8, *FLOATS)[rng.integers(4)], str(rng.choice(LAYOUTS))
    out = tuple(int(v) for v in rng.choice([1, 2, 15, 127, 255], 2))
    options = {
        "fill": [0, "mean", "replicate", "reflect"][rng.integers(4)],
        "rounding": str(rng.choice(["pixel", "subpixel", "pysot", "pytracking", "siamfc-pytorch", "video_analyst"])),
    }
    name = f"{shape} {layout} {dtype} to {out}, {options}"
    return Case("crop", name, lambda: crop(zeros(shape, dtype, layout), count, out, **options))


def random_augment(rng: np.random.Generator) -> Case:
    shape = int(rng.choice([1, 2, 16])), 3, *(int(v) for v in rng.integers(1, 130, 2))
    out, layout = tuple(int(v) for v in rng.choice([1, 16, 31, 127, 255], 2)), str(rng.choice(LAYOUTS))
    dtype, step = FLOATS[rng.integers(3)], float(rng.uniform(0.5, 2))
    blur = float(rng.choice([0.0, 0.5, 3.0]))
    name = f"{shape} {layout} to {out}, {dtype}, {step=:.2f}, {blur=}"
    return Case("augment", name, lambda: augmented(zeros(shape, torch.uint8, layout), out, dtype, step, blur))


# ----------------------------------------------------------------------------------------------------------------- warp
def warp(
    query: torch.Tensor,
    keys: torch.Tensor,
    k: int,
    dtype: torch.dtype,
    bias: bool = False,
    details: bool = False,
    **options: Any,
) -> None:
    n, t, *_, h, w = keys.shape
    values = zeros((n, t, k, h, w), dtype)
    key_bias = zeros((n, t, h, w), torch.float32) if bias else None
    returns = ("values", "entropy", "lse") if details else ("values",)
    outputs = siamfast.correspondence_warp(query, keys, values, key_bias=key_bias, returns=returns, **options)
    outputs = outputs if details else (outputs,)
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


def random_warp(rng: np.random.Generator) -> Case:
    n, t, k = int(rng.choice([1, 1, 2])), int(rng.choice([1, 1, 2, 4])), int(rng.integers(1, 17))
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


def table() -> Iterator[Case]:
    for several in (correlations, losses, images, warps):
        yield from several()


RANDOM = (random_correlation, random_loss, random_joint_loss, random_crop, random_augment, random_warp)
