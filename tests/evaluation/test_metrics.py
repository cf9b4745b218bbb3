"""The area under the ROC curve equals a count over pairs, and a lost tracker is defined as in the docs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamfast.evaluation.metrics import lost_auc, roc_auc

ABSENT = [float("nan")] * 4


@given(st.lists(st.tuples(st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 1e300, np.nan]), st.booleans()), max_size=40))
def test_roc_auc_is_the_share_of_pairs_in_order_with_ties_as_halves(frames: list[tuple[float, bool]]) -> None:
    """Draws from few values, so that most have ties."""
    positives = [score for score, positive in frames if positive and not np.isnan(score)]
    negatives = [score for score, positive in frames if not positive and not np.isnan(score)]
    pairs = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
    area = roc_auc([score for score, _ in frames], [positive for _, positive in frames])
    assert area == pytest.approx(np.mean(pairs) if pairs else np.nan, nan_ok=True)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40))
def test_swapped_classes_mirror_the_roc_auc(frames: list[tuple[float, bool]]) -> None:
    scores, positive = np.array([f[0] for f in frames]), np.array([f[1] for f in frames], bool)
    assert roc_auc(scores, positive) == pytest.approx(1 - roc_auc(scores, ~positive), nan_ok=True)


def test_roc_auc_needs_one_class_per_score() -> None:
    with pytest.raises(ValueError, match=r"scores: got shape \(2,\) for positive of shape \(3,\)"):
        roc_auc([1, 2], [True, False, True])


def test_frames_without_overlap_and_frames_without_target_are_lost() -> None:
    truth = [[0, 0, 10, 10], [0, 0, 10, 10], ABSENT, [0, 0, 10, 10]]
    boxes = [[9, 9, 10, 10], [10, 0, 10, 10], [0, 0, 10, 10], ABSENT]  # touching, apart, absent, no box
    assert lost_auc(boxes, truth, [0.5, 0.4, 0.4, 0.4]) == 1.0
    assert lost_auc(boxes, truth, [0.5, 0.6, 0.4, 0.5]) == 0.5
    assert np.isnan(lost_auc(boxes[1:], truth[1:], [0.1, 0.2, 0.3]))
    assert np.isnan(lost_auc(boxes[:1], truth[:1], [0.1]))
