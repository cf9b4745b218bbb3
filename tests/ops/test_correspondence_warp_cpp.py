"""The C++ warp on every instruction set this CPU has: values and gradients against the float64 reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import siamfast
from siamfast.ops import dispatch

pytestmark = pytest.mark.skipif(
    dispatch.cpp_reason("cpu", torch.float32) is not None, reason=str(dispatch.cpp_reason("cpu", torch.float32))
)
NAMES = ("values", "flow", "confidence", "entropy", "lse")
# Products of unit vectors are within some float32 roundings, the temperature (0.2 and more) takes them five times; a
# softmax passes that on to its weights. 16-bit inputs are exact, their gradients are rounded once.
ALLOWED = {torch.float32: 4e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}


@st.composite
def calls(draw: st.DrawFn) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """More queries, keys and channels than fit a register or tile; all options; any strides."""
    n, t = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    c, k = draw(st.sampled_from([1, 3, 12, 13, 40])), draw(st.integers(0, 3))
    hq, wq, hr, wr = (
        draw(st.integers(1, 9)),
        draw(st.integers(1, 40)),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 40)),
    )
    if draw(st.booleans()):
        hr, wr = hq, wq
    dtype = draw(st.sampled_from(sorted(ALLOWED, key=str)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def made(*shape: int) -> torch.Tensor:
        tensor = torch.randn(shape, generator=generator).to(dtype)
        layout = draw(st.sampled_from(["contiguous", "channels last", "inside"]))
        if layout == "channels last":
            return tensor.movedim(-3, -1).contiguous().movedim(-1, -3)
        if layout == "inside":
            surrounding = torch.full([side + 2 for side in shape], float("nan"), dtype=dtype)
            return surrounding[tuple(slice(1, -1) for _ in shape)].copy_(tensor)
        return tensor

    inputs = [made(n, c, hq, wq), made(n, t, c, hr, wr), made(n, t, k, hr, wr)]
    if draw(st.booleans()):
        inputs.append(made(n, t, hr, wr))
    options: dict[str, Any] = {
        "temperature": draw(st.sampled_from([0.2, 1.0])),
        "normalize": draw(st.booleans()),
        "radius": draw(st.sampled_from([None, 3.0, 6.5, 100.0])),
        "window": draw(st.sampled_from(["square", "circle"])),
        "global_frames": draw(st.sampled_from([(), (0,)])),
        "returns": draw(st.sampled_from([NAMES, ("values",)])),
    }
    if options["radius"] in (3.0, 6.5) and max(hr / hq, wr / wq) > 3:
        options["radius"] = None  # such a window may contain no key, which is another error
    if not options["normalize"]:
        inputs[0] = inputs[0] / c**0.5
    if c < 12:  # logits may be equal, and of equal ones PyTorch gives each a part of the confidence's gradient
        options["returns"] = ("values",)
    if c > 3 and draw(st.booleans()):  # of few channels the lengths' roundings decide between equal logits
        options |= {
            "topk": draw(st.sampled_from([1, 4, 2000])),
            "topk_norm": draw(st.sampled_from(["pre", "pre", "post"])),
        }
        options["returns"] = draw(st.sampled_from([NAMES, NAMES[:4], ("values",)]))
    return inputs, options


def run(inputs: list[torch.Tensor], options: dict[str, Any]) -> list[torch.Tensor]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    bias = leaves[3] if len(leaves) > 3 else None
    outputs = siamfast.correspondence_warp(*leaves[:3], key_bias=bias, **options)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(0)
    # Weights that are exact in all dtypes.
    weights = [torch.randint(-4, 5, f.shape, generator=generator) / 4 for f in outputs]
    total = sum((f * w.to(f.dtype)).double().sum() for f, w in zip(outputs, weights, strict=True))
    assert isinstance(total, torch.Tensor)
    return [f.detach() for f in outputs] + list(torch.autograd.grad(total, leaves))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_values_and_gradients_are_right_on_every_instruction_set(isa: str, data: st.DataObject) -> None:
    inputs, options = data.draw(calls())
    with siamfast.backend("cpp"):
        ours = run(inputs, options)
    with siamfast.backend("reference"):
        exact = run([t.double() for t in inputs], options)
    shortest = min(float(t.detach().double().norm(dim=-3).min()) for t in inputs[:2]) if options["normalize"] else 1.0
    pull = 0.1 / (options["temperature"] * max(shortest, 1e-6))
    names = (*options["returns"], "dquery", "dreference", "dvalues", "dbias")
    for name, result, truth in zip(names, ours, exact, strict=False):
        size = float(truth.abs().max()) if truth.numel() else 0.0
        # Gradients of features are differences of what keys pull, by up to 1 / (temperature * length) each.
        size = max(size, pull if name.startswith("d") else 1.0)
        if name == "flow":
            size = max(size, *inputs[0].shape[-2:])  # the difference of two places, each rounded by itself
        worst = float((result.double() - truth).abs().max()) if truth.numel() else 0.0
        assert worst <= ALLOWED[inputs[0].dtype] * size, f"{name}: {worst} of {size}"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_top_k_is_exact_on_every_instruction_set(isa: str, data: st.DataObject) -> None:
    """Features of few whole numbers, so that logits are exact and many are equal: ties must go to the lower index."""
    inputs, options = data.draw(calls())
    dtype = torch.float32
    inputs = [t.nan_to_num().clamp(-1, 1).round().to(dtype) for t in inputs]
    options |= {
        "normalize": False,
        "temperature": 0.5,
        "topk": data.draw(st.sampled_from([1, 2, 5, 400])),
        "topk_norm": data.draw(st.sampled_from(["pre", "post"])),
        "returns": (*NAMES, "indices"),
    }
    bias = inputs[3] if len(inputs) > 3 else None
    with siamfast.backend("cpp"):
        *ours, places = siamfast.correspondence_warp(*inputs[:3], key_bias=bias, **options)
    doubled = [t.double() for t in inputs]
    with siamfast.backend("reference"):
        *exact, expected = siamfast.correspondence_warp(
            *doubled[:3], key_bias=None if bias is None else bias.double(), **options
        )
    assert torch.equal(places, expected)
    for name, result, truth in zip(NAMES, ours, exact, strict=True):
        # A flow is the difference of two places, each rounded by itself.
        size = max(inputs[0].shape[-2:]) if name == "flow" else 1
        torch.testing.assert_close(result.double(), truth, rtol=2e-5, atol=2e-5 * size)


def test_nan_in_a_query_stays_in_its_cell(isa: str) -> None:
    query, key, value = torch.randn(1, 4, 5, 5), torch.randn(1, 4, 5, 5), torch.randn(1, 2, 5, 5)
    query[0, 1, 2, 3] = float("nan")
    for topk in (None, 3):
        with siamfast.backend("cpp"):
            result = siamfast.correspondence_warp(query, key, value, topk=topk)
        assert result[0, :, 2, 3].isnan().all()
        assert result.isnan().sum() == 2


@pytest.mark.parametrize("topk", [None, 3])
def test_nan_in_a_key_reaches_only_the_queries_that_see_it(isa: str, topk: int | None) -> None:
    query, key, value = torch.randn(1, 4, 1, 30), torch.randn(1, 4, 1, 30), torch.randn(1, 1, 1, 30)
    key[0, 1, 0, 20] = float("nan")
    with siamfast.backend("cpp"):
        result = siamfast.correspondence_warp(query, key, value, radius=2, topk=topk)
    assert result.isnan().flatten().nonzero().flatten().tolist() == [18, 19, 20, 21, 22]


def test_zero_features_match_all_keys_equally_with_finite_gradients(isa: str) -> None:
    query, key = torch.zeros(1, 4, 3, 3, requires_grad=True), torch.zeros(1, 4, 3, 3, requires_grad=True)
    value = torch.arange(9.0).view(1, 1, 3, 3)
    with siamfast.backend("cpp"):
        result = siamfast.correspondence_warp(query, key, value)
        result.sum().backward()
    torch.testing.assert_close(result, torch.full_like(result, 4.0))
    assert query.grad is not None
    assert key.grad is not None
    assert query.grad.isfinite().all()
    assert key.grad.isfinite().all()


def test_logits_far_apart_do_not_overflow(isa: str) -> None:
    query, key = torch.randn(1, 8, 6, 6) * 100, torch.randn(1, 8, 6, 6) * 100
    value = torch.randn(1, 1, 6, 6)
    with siamfast.backend("cpp"):
        result = siamfast.correspondence_warp(query, key, value, normalize=False, temperature=1e-3)
    with siamfast.backend("reference"):
        expected = siamfast.correspondence_warp(
            query.double(), key.double(), value.double(), normalize=False, temperature=1e-3
        )
    torch.testing.assert_close(result.double(), expected, atol=1e-4, rtol=1e-4)


def test_two_threaded_runs_give_the_same_bits(isa: str) -> None:
    inputs = [torch.randn(1, 16, 30, 30), torch.randn(1, 1, 16, 30, 30), torch.randn(1, 1, 2, 30, 30)]
    for radius in (None, 4.0):
        with siamfast.backend("cpp"):
            first, second = (run(inputs, {"radius": radius}) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
