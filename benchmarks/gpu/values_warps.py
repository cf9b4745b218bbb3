"""Checks of the correspondence warp's kernels: with and without a window and a top k, in every kind of product."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from benchmarks.gpu.checks import Check, Tensors, numbers
from benchmarks.gpu.schedule import Row
from siamfast.ops.correspondence_warp import autograd as raw
from siamfast.ops.correspondence_warp import call
from siamfast.ops.correspondence_warp import triton as ours

OUTPUTS, SLOPES = ("values", "confidence", "entropy", "lse"), ("dquery", "dkeys", "dvalues", "dbias")
MODES = {"plain": (-1.0, False, 0), "square": (4.0, False, 0), "circle, top 10": (5.0, True, 10)}  # radius, circle, k
AS_THEY_ARE = ", not normalized"  # behind a mode: float32 features are multiplied in TF32, where unit ones are float16
KINDS = ((torch.float16, True), (torch.float32, False), (torch.bfloat16, True), (torch.float32, True))
Size = tuple[int, int, int, int]  # batch, cells of a side, channels, and those of the values
TINY, SPLIT, WHOLE = (1, 5, 5, 5), (1, 23, 4, 5), (2, 40, 256, 5)
# Values whose slopes are products (launch_backward.SMALL_SLOPES): other programs of the gradients.
TINY_PRODUCTS, PRODUCTS = (1, 5, 5, 18), (2, 40, 256, 18)
MOST_OFF = 0.01  # of the elements


def _options(mode: str, channels: int) -> call.Options:
    radius, circle, topk = MODES[mode.removesuffix(AS_THEY_ARE)]
    exempt = [0] if radius > 0 else []
    normalize = not mode.endswith(AS_THEY_ARE)
    temperature = 0.2 if normalize else channels**0.5  # products of normal numbers are about the root of their count
    return call.Options(temperature, normalize, radius, circle, exempt, topk, post=False, details=True)


@functools.cache
def tensors(size: Size, whole: bool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Query, keys, values, bias; gradients of values, confidence, entropy, and none of lse."""
    n, side, channels, k = size
    draw = functools.partial(numbers, generator=torch.Generator().manual_seed(0), whole=whole)
    inputs = [
        draw(n, channels, side, side),
        draw(n, 2, channels, side, side),
        draw(n, 2, k, side, side),
        draw(n, 2, side, side),
    ]
    return inputs, [draw(n, k, side, side), *(draw(n, side, side) * (end < 2) for end in range(3))]


@functools.cache
def truth(size: Size, whole: bool, mode: str, device: str) -> Tensors:
    inputs, grads = tensors(size, whole)
    leaves = [t.to(device).double().requires_grad_() for t in inputs]
    outputs = raw.specification(call.Tensors(*leaves), _options(mode, size[2]))
    total = sum((o * g.to(device).double()).sum() for o, g in zip(outputs[:4], grads, strict=True))
    assert isinstance(total, torch.Tensor)
    slopes = torch.autograd.grad(total, leaves)
    results = zip((*OUTPUTS, *SLOPES), (*outputs[:4], *slopes), strict=True)
    return {name: t.detach() for name, t in results}


def judge(allowed: float, tf32: bool, topk: int, results: Tensors, truth: Tensors) -> Row:
    """Rounded factors move a logit by 2^-11 of 1 / temperature, which makes another key the best of some queries, and
    with it the confidence's slope another key's; or another key the tenth (3 to 5 % of the queries of small maps). The
    rule is then on the share of elements that are off, and with a top k on that of the queries with other values."""
    off = {name: share_off(results[name], true, allowed) for name, true in truth.items()}
    if topk == 0 or not tf32:
        return {"most_off": max(off.values()), "good": max(off.values()) <= (MOST_OFF if tf32 else 0.0)}
    differences = (results["values"].to(truth["values"].device).double() - truth["values"]).abs().amax(1)
    changed = float((differences > 0.02).double().mean())
    return {"changed": changed, "good": max(off.values()) == 0 or changed < 0.1}


def share_off(result: torch.Tensor, truth: torch.Tensor, allowed: float) -> float:
    """The share of elements that are off by more than `allowed` of the truth's largest; a NaN is off."""
    near = (result.to(truth.device).double() - truth).abs() <= allowed * truth.abs().max()
    return float((~near).double().mean())


def warp(size: Size, mode: str, dtype: torch.dtype, tf32: bool, backward: bool = True) -> Check:
    whole, options = dtype == torch.float32, _options(mode, size[2])

    def run(device: str) -> Tensors:
        inputs, grads = tensors(size, whole)
        near = [t.to(device) for t in inputs]
        near[:2] = (t.to(dtype) for t in near[:2])
        out = ours.forward(call.Tensors(*near), options)
        results = dict(zip(OUTPUTS, out, strict=False))
        if backward:
            gradients = call.Gradients(*(g.to(device) for g in grads))
            slopes = ours.backward(gradients, out, call.Tensors(*near), options, needs=[True] * 4)
            results |= zip(SLOPES, slopes, strict=True)
        return results

    def true(device: str) -> Tensors:
        return {n: t for n, t in truth(size, whole, mode, device).items() if backward or n in OUTPUTS}

    allowed = 3e-2 if tf32 else 2e-4
    rule = functools.partial(judge, allowed, tf32, options.topk)
    _, side, channels, k = size
    of_values = "" if k == WHOLE[3] else f" and {k} of values"
    name = f"{side}x{side}, {channels} channels{of_values}, {mode}{'' if backward else ', forward'}"
    return Check("correspondence_warp", name, dtype, run, true, allowed, tf32, rule)


def values(tiny: bool) -> Iterator[Check]:
    for dtype, tf32 in KINDS[:2] if tiny else KINDS:
        for mode in MODES:
            yield warp(TINY if tiny else WHOLE, mode, dtype, tf32)
        yield warp(TINY_PRODUCTS if tiny else PRODUCTS, "square", dtype, tf32)
    for mode in ("plain", "square"):
        yield warp(TINY if tiny else WHOLE, mode + AS_THEY_ARE, torch.float32, True)


def smoke() -> Iterator[Check]:
    yield warp(TINY, "plain", torch.float32, True, backward=False)
    yield warp(TINY, "plain", torch.float32, True)
    yield warp(TINY, "square", torch.float32, True)
    yield warp(TINY, "circle, top 10", torch.float32, True, backward=False)
    yield warp(TINY, "circle, top 10", torch.float32, True)
    # So many keys that they are dealt out, and the parts joined by a kernel of its own.
    yield warp(SPLIT, "plain", torch.float16, True, backward=False)
