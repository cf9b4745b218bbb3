"""Long-term figures against what a person counts, and against the definition written out plainly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siamfast.evaluation.long_term import long_term
from siamfast.evaluation.metrics import overlap

HERE, AWAY, GONE = [10.0, 10, 20, 20], [60.0, 60, 20, 20], [np.nan] * 4


def test_returns_are_counted() -> None:
    """Gone for 12 frames and back, gone for 5, which is no absence, gone for 20 and never on it again."""
    truth = [HERE] * 5 + [GONE] * 12 + [HERE] * 30 + [GONE] * 5 + [HERE] * 10 + [GONE] * 20 + [HERE] * 40
    boxes = [HERE] * 5 + [AWAY] * 30 + [HERE] * 27 + [AWAY] * (len(truth) - 62)
    sure = np.where(np.isnan(truth).any(1), 0.1, 0.9)
    sure[70] = 0.95  # one confident frame of the 37 without the target
    figures = long_term([(boxes, truth, sure)])
    assert (figures.returns, figures.reacquired) == (2, 0.5)
    assert figures.threshold > 0.1
    assert figures.false_alarms == pytest.approx(1 / 37)
    on = 4 + 27 - 5  # frames on the target but the first and those where it is gone
    assert figures.recall == pytest.approx(on / (4 + 30 + 10 + 40))
    assert figures.precision == pytest.approx(on / (4 + 30 + 10 + 40 + 1))


def test_a_return_just_in_time_and_one_too_late() -> None:
    for late, reacquired in ((24, 1.0), (25, 0.0)):
        truth = [HERE] + [GONE] * 10 + [HERE] * 40
        boxes = [HERE] + [AWAY] * (10 + late) + [HERE] * (40 - late)
        assert long_term([(boxes, truth, [1.0] * 51)]).reacquired == reacquired


def test_what_is_not_there_is_nan() -> None:
    figures = long_term([([HERE] * 3, [HERE] * 3, [1, 1, 1])])
    assert (figures.precision, figures.recall, figures.f, figures.returns) == (1, 1, 1, 0)
    assert np.isnan(figures.reacquired)
    assert np.isnan(figures.false_alarms)
    assert np.isnan(long_term([([HERE] * 3, [HERE, GONE, GONE], [1, 1, 1])]).f)
    assert np.isnan(long_term([]).f)
    with pytest.raises(ValueError, match="confidences: got shape \\(2,\\), expected \\(3,\\)"):
        long_term([([HERE] * 3, [HERE] * 3, [1, 1])])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_f_is_the_largest_of_all_thresholds(seed: int) -> None:
    """The definition with every confidence as a threshold; 100 quantiles of some 90 frames are all of them."""
    rng = np.random.default_rng(seed)
    runs = []
    for _ in range(int(rng.integers(1, 4))):
        length = int(rng.integers(2, 30))
        truth = rng.uniform(1, 40, (length, 4))
        truth[rng.random(length) < 0.3] = np.nan
        truth[-1] = HERE
        runs.append((rng.uniform(1, 40, (length, 4)), truth, rng.random(length).round(1)))
    figures = long_term(runs)
    best = 0.0
    for threshold in {value for _, _, sure in runs for value in sure[1:]}:
        precisions, recalls = [], []
        for boxes, truth, sure in runs:
            per_frame = [(o, c) for o, c in zip(overlap(boxes, truth)[1:], sure[1:], strict=True)]
            shown = [0.0 if np.isnan(o) else o for o, c in per_frame if c >= threshold]
            precisions.append(sum(shown) / len(shown) if shown else 1.0)
            recalls.append(sum(shown) / sum(not np.isnan(o) for o, _ in per_frame))
        precision, recall = np.mean(precisions), np.mean(recalls)
        best = max(best, 2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    assert figures.f == pytest.approx(best)
