"""The C++ correlations on every instruction set this CPU has: values and gradients against the float64 reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import siamfast
from siamfast.ops import dispatch
from siamfast.ops.xcorr import reference
from tests.threads import threads

pytestmark = pytest.mark.skipif(
    dispatch.cpp_reason("cpu", torch.float32) is not None, reason=str(dispatch.cpp_reason("cpu", torch.float32))
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _in_layout(t: torch.Tensor, layout: str) -> torch.Tensor:
    """t (N, C, H, W) with other strides; surrounded by NaN, so that a stray read shows."""
    if layout == "contiguous":
        return t
    if layout == "channels_last":
        return t.contiguous(memory_format=torch.channels_last)
    if layout == "turned":
        return t.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == "expanded":
        return t[:1].expand_as(t)
    surrounding = torch.full([s + 3 for s in t.shape], float("nan"), dtype=t.dtype)
    inner = surrounding[1:-2, 2:-1, 1:-2, 2:-1]
    return inner.copy_(t)


LAYOUTS = ["contiguous", "channels_last", "turned", "expanded", "sliced"]


@st.composite
def cases(draw: st.DrawFn, kernels: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Templates up to 10 x 10, more channels than any register has lanes, all layouts, padding beyond the template."""
    nz, k = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    channels = draw(st.sampled_from([1, 2, 3, 4, 7, 8, 15, 16, 17, 33]))
    hz, wz = draw(st.integers(1, 10)), draw(st.integers(1, 10))
    hx, wx = hz + draw(st.integers(0, 12)), wz + draw(st.integers(0, 30))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    z = torch.randn(nz, kernels * channels, hz, wz, generator=generator).to(dtype)
    x = torch.randn(nz * k, channels, hx, wx, generator=generator).to(dtype)
    z, x = _in_layout(z, draw(st.sampled_from(LAYOUTS))), _in_layout(x, draw(st.sampled_from(LAYOUTS)))
    padding = draw(st.integers(0, 2)), draw(st.sampled_from([0, 1, 11]))
    return z, x, {"padding": padding}


def _run(call: Any, tensors: tuple[torch.Tensor, ...], weight: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in tensors]
    output = call(*leaves)
    weight = torch.ones_like(output) if weight is None else weight.to(output.dtype)
    return (output.detach(), *torch.autograd.grad(output, leaves, weight))


def _check(call: Any, plain: Any, tensors: tuple[torch.Tensor, ...]) -> None:
    """|ours - float64| <= one rounding of the result + 16 float32 roundings of the sum of the terms' sizes.

    Each lane adds at most some hundred terms one after another, whose roundings grow as their root: 16 leaves room.
    """
    exact = tuple(t.detach().double() for t in tensors)
    dtype = tensors[0].dtype
    weight = torch.randn(plain(*exact).shape).to(dtype)
    truth = _run(plain, exact, weight.double())
    sizes = _run(plain, tuple(t.abs() for t in exact), weight.double().abs())
    with siamfast.backend("cpp"):
        ours = _run(call, tensors, weight)
    for name, t, size, o in zip(("value", "dz", "dx", "dscale", "dbias"), truth, sizes, ours, strict=False):
        limits = torch.finfo(o.dtype)
        # A gradient that is a sum of expanded copies is rounded once per copy. tiny: the smallest steps of float16.
        allowed = 2 * limits.eps * (t.abs() + limits.tiny) + 16 * torch.finfo(torch.float32).eps * size
        assert ((o.double() - t).abs() <= allowed).all(), f"{name}: {(o.double() - t).abs().max()}"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_full_is_right_on_every_instruction_set(isa: str, data: st.DataObject) -> None:
    kernels = data.draw(st.integers(1, 3))
    z, x, options = data.draw(cases(kernels))
    options["pairing"] = data.draw(st.sampled_from(["cycle", "all"]))
    scale, bias = torch.full((kernels,), 0.5).to(z.dtype), torch.full((1,), 0.25).to(z.dtype)

    def call(z: torch.Tensor, x: torch.Tensor, s: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return siamfast.xcorr(z, x, scale=s, bias=b, **options)

    def plain(z: torch.Tensor, x: torch.Tensor, s: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return reference.xcorr(z, x, scale=s, bias=b, **options)

    _check(call, plain, (z, x, scale, bias))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_depthwise_is_right_on_every_instruction_set(isa: str, data: st.DataObject) -> None:
    z, x, options = data.draw(cases(1))
    _check(
        lambda z, x: siamfast.xcorr_depthwise(z, x, **options),
        lambda z, x: reference.xcorr_depthwise(z, x, **options),
        (z, x),
    )


def test_the_split_of_few_searches_does_not_depend_on_the_thread_count(isa: str) -> None:
    z, x = torch.randn(1, 256, 6, 6), torch.randn(3, 256, 22, 22)
    responses = []
    for count in (1, 2, 3):
        with threads(count):
            responses.append(siamfast.xcorr(z, x))
    assert torch.equal(responses[0], responses[1])
    assert torch.equal(responses[0], responses[2])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_stays_in_the_windows_that_cover_it(isa: str, dtype: torch.dtype) -> None:
    """No lane, overlapping tile or zero border carries it elsewhere."""
    z, x = torch.ones(1, 20, 3, 3, dtype=dtype), torch.ones(1, 20, 9, 9, dtype=dtype)
    x[0, 5, 0, 8] = float("nan")
    z.requires_grad_()
    x.requires_grad_()
    out = siamfast.xcorr_depthwise(z, x)
    out.backward(torch.ones_like(out))
    assert int(out.isnan().sum()) == 1
    assert z.grad is not None
    assert x.grad is not None
    assert z.grad[0, 5].isnan().tolist() == [[False, False, True], [False] * 3, [False] * 3]
    assert int(z.grad.isnan().sum()) == 1
    assert not x.grad.isnan().any()


def test_memory_format_of_the_search_is_kept(isa: str) -> None:
    z = torch.randn(2, 32, 3, 3)
    x = torch.randn(2, 32, 9, 9).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = siamfast.xcorr_depthwise(z, x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
