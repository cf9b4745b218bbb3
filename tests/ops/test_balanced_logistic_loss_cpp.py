"""The C++ loss on every instruction set this CPU has: values and slopes against the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import siamfast
from siamfast.ops import dispatch
from tests.threads import threads

pytestmark = pytest.mark.skipif(
    dispatch.cpp_reason("cpu", torch.float32) is not None, reason=str(dispatch.cpp_reason("cpu", torch.float32))
)
EPS = 2.0**-23


@st.composite
def calls(draw: st.DrawFn) -> tuple[torch.Tensor, dict[str, Any]]:
    """Scores of any dtype, size and strides, and every option."""
    shape = draw(st.integers(0, 9)), draw(st.integers(1, 19)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scores = torch.randn(shape, generator=generator) * draw(st.sampled_from([0.1, 3.0, 50.0]))
    scores = scores.to(draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16])))
    if draw(st.booleans()):
        scores = scores.transpose(1, 2).contiguous().transpose(1, 2)
    radii = st.sampled_from([0.0, 8.0, 13.0, 16.0, 100.0])
    options: dict[str, Any] = {
        "r_pos": draw(radii),
        "r_neg": draw(radii),
        "metric": draw(st.sampled_from(["l1", "l2"])),
        "neutral": draw(st.sampled_from(["half", "ignore", "half-weighted"])),
        "balance": draw(st.sampled_from(["sample", "batch", "cells"])),
        "neg_weight": draw(st.sampled_from([1.0, 0.3])),
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
    }
    kind = draw(st.sampled_from(["made", "centers", "map", "maps"]))
    if kind == "centers":
        options["centers"] = torch.rand(shape[0], 2, generator=generator) * 30 - 3
    elif kind != "made":
        given = torch.tensor([-1.0, 0.0, 0.3, 1.0])[torch.randint(0, 4, shape, generator=generator)]
        options["labels"] = given[0] if kind == "map" and shape[0] else given
    return scores, options


def run(scores: torch.Tensor, options: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = scores.detach().requires_grad_()
    loss = siamfast.balanced_logistic_loss(leaf, **options)
    return loss.detach(), torch.autograd.grad(loss.sum(), leaf)[0]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_loss_and_slope_are_right_on_every_instruction_set(isa: str, data: st.DataObject) -> None:
    scores, options = data.draw(calls())
    with siamfast.backend("cpp"):
        loss, slope = run(scores, options)
    with siamfast.backend("reference"):
        # The labels' distances are float32's, as ours: a cell must not fall on the other side of a radius.
        if options.get("labels") is None:
            made = {name: options[name] for name in ("r_pos", "r_neg", "metric", "neutral")}
            labels = siamfast.logistic_labels(tuple(scores.shape[1:]), **made, centers=options.get("centers"))
            exact = {k: v for k, v in options.items() if k != "centers"} | {"labels": labels.double()}
        else:
            exact = options
        true_loss, true_slope = run(scores.double(), exact)
    # A sum of positive terms of a few roundings each, at most 190 of them one after another in a lane: their roundings
    # grow as the root of that. 1e-13: float64's own where a cell of |s| = 100 and more is right.
    torch.testing.assert_close(loss.double(), true_loss, rtol=16 * EPS, atol=1e-13)
    rounding = {torch.float32: 8 * EPS, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-10}[scores.dtype]
    # Float64's own sigmoid(s) - 1; float16's smallest; sigmoid(s) - y of neutral cells, which weigh up to 1.
    floor = max(1e-15, 2.0**-24 * (scores.dtype == torch.float16), EPS * (options["neutral"] == "half-weighted"))
    torch.testing.assert_close(slope.double(), true_slope, rtol=rounding, atol=floor)


def test_log_of_1_plus_exp_is_within_2_ulp_over_the_whole_range(isa: str) -> None:
    """20,000 random numbers per binade of |s|, up to where the result is subnormal. (All numbers were tested once.)"""
    rng = np.random.default_rng()
    ends = np.array([2.0**-30, 87.0], np.float32).view(np.uint32)
    bits = np.concatenate(
        [rng.integers(b, min(b + (1 << 23), ends[1]), 20_000) for b in range(ends[0], ends[1], 1 << 23)]
    )
    scores = bits.astype(np.uint32).view(np.float32)
    positive_label = torch.ones(1, 1)
    with siamfast.backend("cpp"):
        loss = 2 * siamfast.balanced_logistic_loss(
            torch.from_numpy(scores).view(-1, 1, 1), positive_label, reduction="none"
        )
    truth = np.log1p(np.exp(-scores.astype(np.longdouble)))
    ulp = np.spacing(truth.astype(np.float32)).astype(np.longdouble)
    assert (np.abs(loss.numpy() - truth) / ulp).max() <= 2


def test_scores_beyond_the_range_of_exp_give_0_and_themselves(isa: str) -> None:
    scores = torch.tensor([88.0, 103.0, 104.0, 1e4, 3e38, float("inf")]).view(-1, 1, 1)
    with siamfast.backend("cpp"):
        right, wrong = (
            siamfast.balanced_logistic_loss(scores[:5] * sign, torch.ones(1, 1), reduction="none") for sign in (1, -1)
        )
        endless = siamfast.balanced_logistic_loss(scores[5:], torch.zeros(1, 1))
    torch.testing.assert_close(right, 0.5 * torch.exp(-scores[:5].flatten().double()).float(), rtol=0, atol=3e-45)
    torch.testing.assert_close(wrong, 0.5 * scores[:5].flatten(), rtol=0, atol=0)
    assert endless.isposinf()


def test_nan_gives_a_nan_loss_unless_its_cell_is_ignored(isa: str) -> None:
    scores = torch.zeros(2, 5, 7)
    scores[0, 2, 3] = float("nan")
    labels = torch.zeros(5, 7)
    with siamfast.backend("cpp"):
        losses = siamfast.balanced_logistic_loss(scores, labels, reduction="none")
        labels[2, 3] = -1
        ignored = siamfast.balanced_logistic_loss(scores, labels, reduction="none")
    assert losses.isnan().tolist() == [True, False]
    assert ignored.isfinite().all()


def test_the_thread_count_does_not_change_the_bits(isa: str) -> None:
    scores = torch.randn(300, 17, 17)  # enough for threads
    results = []
    for count in (1, 2, 5):
        with threads(count), siamfast.backend("cpp"):
            results.append(run(scores, {}))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))
