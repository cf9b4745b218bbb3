"""Checks of the correlations' kernels: forward and both gradients, together and apart."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

import siamfast
from benchmarks import bench_xcorr
from benchmarks.bench_xcorr import SHAPES, Shape
from benchmarks.gpu.checks import Check, Tensors, numbers
from siamfast.ops.xcorr import triton as ours
from siamfast.ops.xcorr.call import DepthwiseCall, XcorrCall

BOTH = (True, True)


def small(shape: Shape) -> Shape:
    """With few channels and samples; sizes of maps stay, they decide the kernels' blocks."""
    (nz, kc, *z), (nx, c, *x) = shape.z, shape.x
    kernels, channels = min(2, kc // c), min(2 if shape.kind == "depthwise" else 8, c)
    return shape._replace(z=(min(nz, 2), kernels * channels, *z), x=(min(nx, 2) if nz > 1 else nx, channels, *x))


@functools.cache
def tensors(shape: Shape, whole: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """z, x, the response's gradient."""
    generator = torch.Generator().manual_seed(0)
    z, x = (numbers(*size, generator=generator, whole=whole) for size in (shape.z, shape.x))
    with torch.device("meta"):
        response = bench_xcorr.ours(shape)(torch.empty(shape.z), torch.empty(shape.x))
    return z, x, numbers(*response.shape, generator=generator, whole=whole)


@functools.cache
def truth(shape: Shape, whole: bool, device: str) -> Tensors:
    z, x, grad = (t.to(device).double() for t in tensors(shape, whole))
    with siamfast.backend("reference"):
        return named(bench_xcorr.value_and_gradients(bench_xcorr.ours(shape), z, x, grad))


def named(results: tuple[torch.Tensor, ...]) -> Tensors:
    return {name: t.detach() for name, t in zip(("value", "dz", "dx"), results, strict=True)}


def allowed(dtype: torch.dtype, tf32: bool) -> float:
    """TF32 rounds factors to 11 bits, the 16-bit types their results to 8 and 11; exact float32 sums keep some 20."""
    return 1e-2 if dtype == torch.bfloat16 else 1e-5 if dtype == torch.float32 and not tf32 else 2e-3


def correlation(shape: Shape, dtype: torch.dtype, tf32: bool = True, parts: str = "value dz dx") -> Check:
    """parts: which results; dz and dx together are one kernel where its blocks allow it, alone one each."""
    names = parts.split()
    whole = dtype == torch.float32
    needs = ["dz" in names, "dx" in names]

    def run(device: str) -> Tensors:
        z, x, grad = (t.to(device, dtype) for t in tensors(shape, whole))
        results: Tensors = {}
        if shape.kind == "pixelwise":  # no kernel of ours: PyTorch's product
            results = named(bench_xcorr.value_and_gradients(bench_xcorr.ours(shape), z, x, grad))
        elif shape.kind == "depthwise":
            depthwise = DepthwiseCall(z, x, shape.padding, shape.padding)
            if "value" in names:
                results["value"] = ours.depthwise_forward(depthwise)
            if any(needs):
                results |= zip(("dz", "dx"), ours.depthwise_backward(grad, depthwise, needs), strict=True)
        else:
            full = XcorrCall.of(z, x, None, None, 1.0, 0.0, shape.padding, shape.padding, False)
            if "value" in names:
                results["value"] = ours.full_forward(full)
            if any(needs):
                slopes = ours.full_backward(grad, full, [*needs, False, False])[:2]
                results |= zip(("dz", "dx"), slopes, strict=True)
        return {name: results[name] for name in names}

    def true(device: str) -> Tensors:
        return {name: t for name, t in truth(shape, whole, device).items() if name in names}

    name = shape.name if len(names) == 3 else f"{shape.name}, {' and '.join(names)}"
    return Check(f"xcorr {shape.kind}", name, dtype, run, true, allowed(dtype, tf32), tf32)


def values(kind: str, tiny: bool) -> Iterator[Check]:
    """Every shape of a kind in every dtype, float32 also in its exact products."""
    for shape in SHAPES:
        if shape.kind == kind:
            for dtype, tf32 in (
                (torch.float32, True),
                (torch.bfloat16, True),
                (torch.float32, False),
                (torch.float16, True),
            ):
                yield correlation(small(shape) if tiny else shape, dtype, tf32)


def smoke() -> Iterator[Check]:
    """Each kernel by itself, at tiny sizes."""
    full = Shape("6x6 on 22x22", "full", (2, 8, 6, 6), (2, 8, 22, 22))
    depthwise = Shape("5x5 on 13x13", "depthwise", (2, 2, 5, 5), (2, 2, 13, 13))
    for shape, parts in (
        (full, "value"),
        (full, "dz dx"),
        (full, "dx"),
        (full, "dz"),
        (depthwise, "value"),
        (depthwise, "dz dx"),
    ):
        yield correlation(shape, torch.float32, True, parts)
    for shape in (full, depthwise):
        yield correlation(shape, torch.bfloat16)
    yield correlation(full, torch.float32, False)
