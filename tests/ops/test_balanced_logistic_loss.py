"""The loss equals the formulas of the projects it replaces; labels, balances, negatives and extremes are right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import siamfast

radii = st.sampled_from([0.0, 7.0, 8.0, 16.0, 30.0, 500.0])


@settings(max_examples=80)
@given(
    st.tuples(st.integers(0, 4), st.integers(1, 17), st.integers(1, 17)),
    radii,
    radii,
    st.sampled_from(["l1", "l2"]),
    st.sampled_from(["half", "ignore", "half-weighted"]),
    st.sampled_from(["sample", "batch"]),
    st.sampled_from(["mean", "sum", "none"]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_loss_equals_its_reference(
    shape: Any,
    r_pos: float,
    r_neg: float,
    metric: str,
    neutral: str,
    balance: str,
    reduction: str,
    shifted: bool,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    centers = torch.rand(shape[0], 2, generator=generator, dtype=torch.float64) * 20 - 2 if shifted else None
    options: dict[str, Any] = {
        "r_pos": r_pos,
        "r_neg": r_neg,
        "metric": metric,
        "neutral": neutral,
        "balance": balance,
        "reduction": reduction,
        "centers": centers,
        "neg_weight": 0.7,
    }
    ours = siamfast.balanced_logistic_loss(scores, **options)
    with siamfast.backend("reference"):
        theirs = siamfast.balanced_logistic_loss(scores, **options)
    torch.testing.assert_close(ours, theirs)
    gradient, expected = (torch.autograd.grad(loss.sum(), scores)[0] for loss in (ours, theirs))
    torch.testing.assert_close(gradient, expected)


def test_loss_equals_the_seeds_on_its_settings() -> None:
    """17 x 17, stride 8, rPos 16, rNeg 0, l1: positives share 0.5, negatives share 0.5, summed, mean over the batch."""
    scores = torch.randn(8, 1, 17, 17, dtype=torch.float64)
    cells = torch.arange(17.0, dtype=torch.float64) - 8
    positive = 8 * (cells[:, None].abs() + cells.abs()) <= 16
    losses = F.softplus(torch.where(positive, -scores, scores))
    weights = torch.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum())
    expected = (losses * weights).sum((1, 2, 3)).mean()
    torch.testing.assert_close(siamfast.balanced_logistic_loss(scores, r_pos=16, r_neg=0), expected)


@pytest.mark.parametrize("neg_weight", [1.0, 0.25])
def test_batch_balance_equals_siamfc_pytorchs(neg_weight: float) -> None:
    """Weight 1/#positives and neg_weight/#negatives over the whole batch, all divided by their sum, summed up."""
    scores = torch.randn(4, 1, 15, 15, dtype=torch.float64)
    labels = (torch.rand(4, 1, 15, 15) < 0.2).double()
    weights = labels / labels.sum() + neg_weight * (1 - labels) / (1 - labels).sum()
    expected = F.binary_cross_entropy_with_logits(scores, labels, weights / weights.sum(), reduction="sum")
    ours = siamfast.balanced_logistic_loss(scores, labels, balance="batch", neg_weight=neg_weight)
    torch.testing.assert_close(ours, expected)


def test_half_weighted_equals_bilylees_neutral_cells() -> None:
    scores = torch.randn(2, 1, 17, 17, dtype=torch.float64)
    labels = siamfast.logistic_labels(17, r_pos=8, r_neg=24, dtype=torch.float64)
    neutral = labels == 0.5
    plain = siamfast.balanced_logistic_loss(scores, labels)
    extra = (F.binary_cross_entropy_with_logits(scores, labels.expand_as(scores), reduction="none") * neutral).sum() / 2
    torch.testing.assert_close(siamfast.balanced_logistic_loss(scores, labels, neutral="half-weighted"), plain + extra)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_over_all_cells_equals_siamfc_pytorchs(gamma: float) -> None:
    """The mean of modulated losses over the mean modulation; the derivative goes through the modulation too."""
    scores = torch.randn(4, 1, 15, 15, dtype=torch.float64, requires_grad=True)
    labels = (torch.rand(4, 1, 15, 15) < 0.2).double()
    p = scores.sigmoid()
    hard = labels * (1 - p) ** gamma + (1 - labels) * p**gamma
    losses = -hard * (labels * p.log() + (1 - labels) * (1 - p).log())
    expected = losses.mean() / hard.mean()
    ours = siamfast.balanced_logistic_loss(scores, labels, balance="cells", gamma=gamma)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, scores)[0] for loss in (ours, expected)))


def test_focal_keeps_each_samples_share() -> None:
    """All cells equally hard: the modulation cancels, in a negative pair too."""
    scores, centers = torch.zeros(2, 1, 9, 9), torch.tensor([[4.0, 4.0], [1e6, 1e6]])
    plain, focal = (
        siamfast.balanced_logistic_loss(scores, centers=centers, gamma=gamma, reduction="none") for gamma in (0, 2)
    )
    torch.testing.assert_close(plain, focal)


@pytest.mark.parametrize("score", [1e4, -1e4])
def test_focal_is_finite_when_all_cells_are_right_or_wrong(score: float) -> None:
    scores = torch.full((1, 1, 5, 5), score, requires_grad=True)
    for label in (0.0, 1.0):
        loss = siamfast.balanced_logistic_loss(scores, torch.full((5, 5), label), gamma=2)
        (grad,) = torch.autograd.grad(loss, scores)
        assert loss.isfinite()
        assert grad.isfinite().all()


@pytest.mark.parametrize("ratio", [3, 0.5])
def test_hard_negatives_over_all_cells_equal_siamfc_pytorchs(ratio: float) -> None:
    """The mean loss of the batch's positives and of `ratio` times as many negatives of highest score."""
    scores = torch.randn(4, 1, 15, 15, dtype=torch.float64)
    labels = (torch.rand(4, 1, 15, 15) < 0.1).double()
    positives, negatives = scores[labels == 1], scores[labels == 0]
    hardest = negatives.topk(int(len(positives) * ratio)).values
    expected = torch.cat([F.softplus(-positives), F.softplus(hardest)]).mean()
    ours = siamfast.balanced_logistic_loss(scores, labels, balance="cells", hard_negatives=ratio)
    torch.testing.assert_close(ours, expected)


def test_hard_negatives_are_chosen_per_sample_and_ties_go_to_the_lower_index() -> None:
    scores = torch.tensor([[[5.0, 1.0, 1.0, -2.0, 7.0]], [[0.0, 9.0, 8.0, 7.0, 0.0]]], requires_grad=True)
    labels = torch.tensor([[[0.0, 0.0, 0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0, 0.0, -1.0]]])
    siamfast.balanced_logistic_loss(scores, labels, hard_negatives=2).backward()
    assert scores.grad is not None
    assert (scores.grad != 0).int().tolist() == [[[1, 1, 0, 0, 1]], [[1, 1, 1, 0, 0]]]


def test_a_negative_pair_keeps_its_hardest_cells() -> None:
    scores = torch.arange(9.0).view(1, 3, 3)
    ours = siamfast.balanced_logistic_loss(scores, torch.zeros(3, 3), hard_negatives=2)
    torch.testing.assert_close(ours, 0.5 * F.softplus(torch.tensor([8.0, 7.0])).mean())


def test_labels_are_one_near_zero_far_and_neutral_between() -> None:
    labels = siamfast.logistic_labels((5, 9), stride=8, r_pos=8, r_neg=16, metric="l1")
    assert labels.shape == (5, 9)
    assert labels[2].tolist() == [0, 0, 0.5, 1, 1, 1, 0.5, 0, 0]
    assert siamfast.logistic_labels(5, r_pos=8, r_neg=16, neutral="ignore")[2].tolist() == [-1, 1, 1, 1, -1]


def test_l2_labels_are_a_disc_and_l1_labels_a_diamond() -> None:
    assert siamfast.logistic_labels(17, r_pos=16, metric="l1").sum() == 13
    assert siamfast.logistic_labels(17, r_pos=16, metric="l2").sum() == 13
    assert siamfast.logistic_labels(17, r_pos=24, metric="l1").sum() == 25
    assert siamfast.logistic_labels(17, r_pos=24, metric="l2").sum() == 29


def test_centers_are_x_then_y() -> None:
    labels = siamfast.logistic_labels((5, 9), r_pos=0, centers=torch.tensor([[7.0, 1.0]]))
    assert labels.nonzero().tolist() == [[0, 1, 7]]


def test_a_negative_pair_keeps_the_negatives_share() -> None:
    scores = torch.zeros(1, 1, 17, 17)
    far = torch.full((1, 2), 1e6)
    expected = 0.5 * torch.log(torch.tensor(2.0))
    torch.testing.assert_close(siamfast.balanced_logistic_loss(scores, centers=far), expected)
    torch.testing.assert_close(siamfast.balanced_logistic_loss(scores, torch.zeros(17, 17)), expected)


@pytest.mark.parametrize("score", [1e4, -1e4])
def test_scores_of_ten_thousand_give_finite_losses_and_gradients(score: float) -> None:
    scores = torch.full((1, 1, 17, 17), score, requires_grad=True)
    loss = siamfast.balanced_logistic_loss(scores)
    loss.backward()
    torch.testing.assert_close(loss.detach(), torch.tensor(5e3))
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize(("score", "label"), [(15.0, 1.0), (25.0, 1.0), (-18.0, 0.0)])
def test_a_tiny_loss_does_not_round_to_zero(score: float, label: float) -> None:
    """In float32 softplus(s) - s*y is 0 here, where the loss is log(1 + exp(-|s|))."""
    loss = siamfast.balanced_logistic_loss(torch.full((1, 1, 1), score), torch.full((1, 1), label))
    torch.testing.assert_close(loss, 0.5 * torch.tensor(-abs(score)).exp().log1p(), rtol=1e-6, atol=0)


def test_a_first_call_in_inference_mode_does_not_break_training() -> None:
    scores = torch.zeros(1, 1, 11, 3, requires_grad=True)
    with torch.inference_mode():
        siamfast.balanced_logistic_loss(scores.detach())
    siamfast.balanced_logistic_loss(scores).backward()
    assert scores.grad is not None


def test_a_first_call_under_fake_tensors_does_not_break_real_calls() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        siamfast.balanced_logistic_loss(torch.zeros(1, 1, 12, 3))
    torch.testing.assert_close(siamfast.balanced_logistic_loss(torch.zeros(1, 1, 12, 3)), torch.tensor(2.0).log())


def test_all_cells_ignored_give_zero_and_zero_gradients() -> None:
    scores = torch.randn(2, 1, 5, 5, requires_grad=True)
    loss = siamfast.balanced_logistic_loss(scores, torch.full((5, 5), -1.0))
    loss.backward()
    assert loss == 0
    assert scores.grad is not None
    assert (scores.grad == 0).all()


def test_nan_in_a_score_gives_a_nan_loss() -> None:
    scores = torch.zeros(1, 1, 5, 5)
    scores[0, 0, 2, 2] = float("nan")
    assert siamfast.balanced_logistic_loss(scores).isnan()


@pytest.mark.parametrize("balance", ["sample", "batch", "cells"])
@pytest.mark.parametrize("options", [{}, {"hard_negatives": 3.0}, {"gamma": 2.0}, {"neutral": "half-weighted"}])
def test_an_empty_batch_gives_zero(balance: str, options: dict[str, Any]) -> None:
    scores = torch.zeros(0, 1, 5, 5, requires_grad=True)
    for centers in (None, torch.zeros(0, 2)):
        loss = siamfast.balanced_logistic_loss(scores, balance=balance, centers=centers, **options)
        assert loss == 0
        loss.backward()
    assert siamfast.balanced_logistic_loss(scores, balance=balance, reduction="none", **options).shape == (0,)


def test_fused_call_equals_the_two_ops_and_returns_the_scores() -> None:
    z, x = torch.randn(3, 8, 6, 6), torch.randn(3, 8, 22, 22)
    loss, scores = siamfast.xcorr_balanced_loss(z, x, scale=0.1, bias=-1.0, r_pos=8, return_scores=True)
    torch.testing.assert_close(scores, siamfast.xcorr(z, x, scale=0.1, bias=-1.0))
    torch.testing.assert_close(loss, siamfast.balanced_logistic_loss(scores, r_pos=8))


S = torch.zeros(2, 1, 5, 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: siamfast.balanced_logistic_loss(S[0, 0]), ValueError, r"scores: got shape \(5, 5\), expected \(N, 1"),
        (lambda: siamfast.balanced_logistic_loss(S.expand(2, 3, 5, 5)), ValueError, "scores: got shape"),
        (lambda: siamfast.balanced_logistic_loss(S.int()), TypeError, "scores: got dtype torch.int32"),
        (lambda: siamfast.balanced_logistic_loss(S, torch.zeros(4, 4)), ValueError, r"labels: got shape \(4, 4\)"),
        (
            lambda: siamfast.balanced_logistic_loss(S, S.requires_grad_()),
            ValueError,
            "labels: got a tensor that requires",
        ),
        (
            lambda: siamfast.balanced_logistic_loss(S, metric="l3"),
            ValueError,
            "metric: got 'l3', expected one of l1, l2",
        ),
        (lambda: siamfast.balanced_logistic_loss(S, balance="x"), ValueError, "balance: got 'x'"),
        (lambda: siamfast.balanced_logistic_loss(S, reduction="x"), ValueError, "reduction: got 'x'"),
        (lambda: siamfast.balanced_logistic_loss(S, r_pos=-1), ValueError, "r_pos: got -1, expected 0 or more"),
        (lambda: siamfast.balanced_logistic_loss(S, stride=0), ValueError, "stride: got 0, expected more than 0"),
        (lambda: siamfast.balanced_logistic_loss(S, neg_weight=-1), ValueError, "neg_weight: got -1"),
        (
            lambda: siamfast.balanced_logistic_loss(S, centers=torch.zeros(3, 2)),
            ValueError,
            r"centers: got shape \(3, 2\)",
        ),
        (lambda: siamfast.balanced_logistic_loss(S, gamma=-1), ValueError, "gamma: got -1, expected 0 or more"),
        (lambda: siamfast.balanced_logistic_loss(S, hard_negatives="3"), TypeError, "hard_negatives: got '3'"),
        (lambda: siamfast.balanced_logistic_loss(S, metric=["l1"]), ValueError, r"metric: got \['l1'\]"),
        (lambda: siamfast.balanced_logistic_loss(S, r_pos="16"), TypeError, "r_pos: got '16', expected a number"),
        (lambda: siamfast.balanced_logistic_loss(S, neg_weight=None), TypeError, "neg_weight: got None"),
        (lambda: siamfast.logistic_labels((1, 2, 3)), TypeError, r"size: got \(1, 2, 3\), expected a whole number"),
        (lambda: siamfast.logistic_labels(5, dtype=torch.int64), TypeError, "dtype: got torch.int64"),
        (lambda: siamfast.logistic_labels(0), ValueError, "size: got 0, expected 1 or more"),
        (
            lambda: siamfast.xcorr_balanced_loss(torch.zeros(1, 8, 3, 3), torch.zeros(1, 4, 5, 5)),
            ValueError,
            "z: got 8 channels, expected x's 4: one kernel per template",
        ),
    ],
)
def test_bad_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
