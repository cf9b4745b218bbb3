"""Run by test_xcorr.py with TRITON_INTERPRET=1: the correlations' kernels on CPU tensors against the reference."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import numpy as np
import torch
from siamfast.kernels import chips
from siamfast.kernels.xcorr import launch, launch_depthwise

from siamfast.ops.xcorr import reference
from siamfast.ops.xcorr import triton as ours
from siamfast.ops.xcorr.call import DepthwiseCall, XcorrCall

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
NAMES = ("value", "dz", "dx", "dscale", "dbias")
# One rounding of the result, and float32 sums of some thousand terms at the most.
ROUNDINGS = 32


def truth(call: Any, tensors: list[torch.Tensor], weight: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    leaves = [t.detach().double().requires_grad_() for t in tensors]
    output = call(*leaves)
    weight = torch.ones_like(output) if weight is None else weight.double()
    return (output.detach(), *torch.autograd.grad(output, leaves, weight))


def check(case: Any, call: Any, tensors: list[torch.Tensor], weight: Any, *found: tuple[torch.Tensor, ...]) -> None:
    """found: results of several ways to the same."""
    exact = truth(call, tensors, weight)
    sizes = truth(call, [t.abs() for t in tensors], weight.abs())
    for way, results in enumerate(found):
        compare((*case, way), results, exact, sizes)


def compare(
    case: Any, results: tuple[torch.Tensor, ...], exact: tuple[torch.Tensor, ...], sizes: tuple[torch.Tensor, ...]
) -> None:
    eps = torch.finfo(torch.float32).eps
    for name, f, t, size in zip(NAMES, results, exact, sizes, strict=False):
        assert f.shape == t.shape, (case, name, f.shape, t.shape)
        limits = torch.finfo(f.dtype)
        allowed = (
            2 * limits.eps * (t.abs() + limits.tiny) + ROUNDINGS * eps * size
        )  # tiny: the smallest steps of float16
        # The gradient that meets a kernel of its own scale is rounded to the features' dtype on its way.
        allowed = allowed + (limits.eps * size if name == "dx" else 0.0)
        over = (f.double() - t).abs() - allowed
        assert (over <= 0).all(), (case, name, f.flatten()[over.argmax()].item(), t.flatten()[over.argmax()].item())


def in_layout(t: torch.Tensor, layout: int) -> torch.Tensor:
    if layout == 1:
        return t.contiguous(memory_format=torch.channels_last)
    if layout == 2:  # surrounded by NaN, so that a stray read shows
        surrounding = torch.full([s + 3 for s in t.shape], float("nan"), dtype=t.dtype)
        return surrounding[1:-2, 2:-1, 1:-2, 2:-1].copy_(t)
    return t.transpose(2, 3).contiguous().transpose(2, 3) if layout == 3 else t


def full(rng: np.random.Generator, number: int, channels: int | None = None, dtype: torch.dtype | None = None) -> None:
    nz, k, o = (int(v) for v in rng.integers(1, 4, 3))
    channels = channels or int(rng.choice([1, 3, 16, 20]))
    hz, wz = (int(v) for v in (rng.integers(1, 10, 2) if number % 3 else (1, 1)))  # every third pixelwise
    if number % 12 == 1:  # a template of more rows than one G holds
        hz, wz, k = 11, 12, 1
    height, width = hz + int(rng.integers(0, 9)), wz + int(rng.integers(0, 14))
    padding = int(rng.choice([0, 0, 1, 4])), int(rng.choice([0, 0, 1, 3]))
    dtype, all_pairs = dtype or DTYPES[int(rng.integers(3))], bool(rng.random() < 0.3)
    torch.backends.cudnn.allow_tf32 = bool(number % 2)  # other configurations; the interpreter's products are exact
    z = in_layout(torch.randn(nz, o * channels, hz, wz).to(dtype), int(rng.integers(4)))
    x = in_layout(torch.randn(nz * k, channels, height, width).to(dtype), int(rng.integers(4)))
    scale, bias = torch.rand(int(rng.choice([1, o]))) + 0.5, torch.randn(int(rng.choice([1, o])))

    def plain(z: torch.Tensor, x: torch.Tensor, s: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return reference.xcorr(
            z, x, scale=s * 0.5, bias=b + 0.25, padding=padding, pairing="all" if all_pairs else "cycle"
        )

    call = XcorrCall.of(z, x, scale, bias, 0.5, 0.25, *padding, all_pairs)
    response = ours.full_forward(call)
    weight = torch.randn(response.shape).to(dtype)
    case = ("full", nz, k, o, channels, hz, wz, height, width, padding, dtype, all_pairs)
    together = (response, *ours.full_backward(weight, call, [True] * 4))
    # Each gradient by itself, from kernels of their own.
    dz = ours.full_backward(weight, call, [True, False, False, False])[0]
    dx = ours.full_backward(weight, call, [False, True, False, False])[1]
    check(case, plain, [z, x, scale, bias], weight, together, (response, dz, dx))


def depthwise(rng: np.random.Generator, number: int) -> None:
    nz, k = (int(v) for v in rng.integers(1, 4, 2))
    channels = int(rng.integers(1, 2 + 5 // (nz * k)))  # few planes: the interpreter takes seconds for each
    hz, wz = (int(v) for v in rng.integers(1, 10, 2))
    height, width = hz + int(rng.integers(0, 9)), wz + int(rng.integers(0, 20))
    padding = int(rng.choice([0, 0, 1, 4])), int(rng.choice([0, 0, 1, 3]))
    dtype = DTYPES[int(rng.integers(3))]
    z = in_layout(torch.randn(nz, channels, hz, wz).to(dtype), int(rng.integers(4)))
    x = in_layout(torch.randn(nz * k, channels, height, width).to(dtype), int(rng.integers(4)))
    response = ours.depthwise_forward(DepthwiseCall(z, x, *padding))
    weight = in_layout(torch.randn(response.shape).to(dtype), int(rng.integers(4)))
    results = (response, *ours.depthwise_backward(weight, DepthwiseCall(z, x, *padding), [True, True]))
    case = ("depthwise", nz, k, channels, hz, wz, height, width, padding, dtype)
    check(case, lambda z, x: reference.xcorr_depthwise(z, x, padding=padding), [z, x], weight, results)


def in_pieces() -> None:
    """Where G of all searches would be too large: whole rounds of the templates, and parts of a round."""
    z, x, bias = torch.randn(3, 8, 2, 2), torch.randn(6, 4, 3, 4), torch.randn(2)
    of_one_search = 4 * 2 * 4 * 3 * 4
    for all_pairs in (False, True):
        call = XcorrCall.of(z, x, None, bias, 2.0, 0.0, 1, 0, all_pairs)
        at_once = ours.full_forward(call)
        for searches in (4, 2, 0):
            with mock.patch.object(ours, "MOST_BYTES", of_one_search * searches):
                torch.testing.assert_close(ours.full_forward(call), at_once, rtol=1e-5, atol=1e-5)


def large() -> None:
    """Searches whose products are too many for the device, by PyTorch's convolution, in every dtype."""
    for dtype in DTYPES:
        z, x = torch.randn(2, 6, 3, 2).to(dtype), torch.randn(4, 3, 6, 5).to(dtype)
        scale, bias = torch.rand(2), torch.randn(2)
        with mock.patch.object(ours, "MOST_SEARCH", 0):
            response = ours.full_forward(XcorrCall.of(z, x, scale, bias, 1.0, 0.0, 1, 0, False))
        exact = reference.xcorr(z.double(), x.double(), scale=scale.double(), bias=bias.double(), padding=(1, 0))
        assert response.dtype == dtype
        # 18 products of size 1 and one rounding of a response of up to some 10.
        torch.testing.assert_close(response.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-5)
    # None at all, of a search that is padding alone.
    empty = XcorrCall.of(torch.ones(1, 3, 1, 2), torch.ones(2, 3, 0, 0), None, None, 1.0, 0.5, 1, 1, False)
    assert torch.equal(ours.full_forward(empty), torch.full((2, 1, 2, 1), 0.5))


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else int(np.random.default_rng().integers(2**31))
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    try:
        for number in range(6):
            # The interpreter takes each program in turn: half of the cases have a few large ones.
            with mock.patch.object(launch, "PROGRAMS", 8 if number % 2 else launch.PROGRAMS):
                full(rng, number)
            with mock.patch.object(launch_depthwise, "MANY_PLANES", 0 if number % 2 else 1 << 30):
                depthwise(rng, number)
        in_pieces()
        large()
        for number, channels in ((1, 20), (5, 20), (7, 40)):
            with mock.patch.object(chips, "chip_of", return_value=90):
                full(rng, number, channels, torch.float32)
    except BaseException:
        print(f"seed {seed}", file=sys.stderr)
        raise
    print("17 cases")


if __name__ == "__main__":
    main()
