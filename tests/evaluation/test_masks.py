"""J and F equal DAVIS's: computed by hand for small masks, and by a loop over pixels for drawn ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from siamfast.evaluation.masks import boundary, boundary_accuracy, region_similarity, statistics

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def _square(at: int, side: int = 20, size: int = 60) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[at : at + side, at : at + side] = True
    return mask


def test_region_is_intersection_over_union() -> None:
    assert region_similarity(_square(10), _square(20)) == 100 / 700
    empty = np.zeros((5, 5))
    assert region_similarity(empty, empty) == 1
    assert region_similarity(empty, np.ones((5, 5))) == 0


def test_boundary_is_between_a_pixel_and_those_right_and_below() -> None:
    mask = np.zeros((5, 6), bool)
    mask[2, 2:4] = True
    assert boundary(mask).astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]


@settings(max_examples=60)
@given(MASKS)
def test_boundary_of_any_mask_equals_a_loop_over_pixels(mask: np.ndarray) -> None:
    height, width = mask.shape
    result = boundary(mask)
    for y in range(height):
        for x in range(width):
            near = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            expected = any(mask[p] != mask[y, x] for p in near if p[0] < height and p[1] < width)
            assert result[y, x] == expected, (y, x)


@settings(max_examples=60)
@given(st.data())
def test_boundary_accuracy_counts_pixels_within_the_radius(data: st.DataObject) -> None:
    mask, radius = data.draw(MASKS), data.draw(st.integers(1, 3))
    truth = data.draw(hnp.arrays(bool, mask.shape))
    ours, theirs = (np.argwhere(boundary(m)) for m in (mask, truth))
    if not len(ours) or not len(theirs):
        expected = float(len(ours) == len(theirs))
    else:
        apart = np.hypot(*(ours[:, None] - theirs[None]).transpose(2, 0, 1))
        precision, recall = (apart.min(1) <= radius).mean(), (apart.min(0) <= radius).mean()
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert boundary_accuracy(mask, truth, radius) == pytest.approx(expected)


def test_the_tolerance_is_a_share_of_the_diagonal() -> None:
    """At 300 x 400 pixels 0.008 of the diagonal, 500, is 4 pixels."""
    at = [np.zeros((300, 400), bool) for _ in range(3)]
    for mask, shift in zip(at, (0, 4, 5), strict=True):
        mask[100:200, 100 + shift : 200 + shift] = True
    assert boundary_accuracy(at[0], at[1]) == 1
    assert boundary_accuracy(at[0], at[2]) < 1


def test_statistics_are_mean_recall_and_decay() -> None:
    scores = [0.9] * 10 + [0.7] * 10 + [0.6] * 10 + [0.2] * 10
    result = statistics(scores)
    assert result.mean == pytest.approx(0.6)
    assert result.recall == 0.75
    assert result.decay == pytest.approx(0.9 - (0.6 + 10 * 0.2) / 11, abs=0.05)
    with pytest.raises(ValueError, match="scores: got none"):
        statistics([])


def test_masks_of_different_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"mask: got shape \(4, 4\) beside a truth of \(5, 5\)"):
        region_similarity(np.ones((4, 4)), np.ones((5, 5)))
