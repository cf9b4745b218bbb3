"""The choice among the cells of an anchor-free prediction: window, penalty, and the average over cells that agree."""

from __future__ import annotations

import numpy as np
import pytest

from siamfast.tracking.anchor_free import choose, hann_window


def test_the_choice_weights_window_and_penalty() -> None:
    quality = np.full((1, 5, 5), 0.5)
    quality[0, 0, 0] = 0.9
    boxes = np.broadcast_to(np.array([10.0, 10, 50, 50])[:, None, None], (1, 4, 5, 5)).copy()
    boxes[0, :, 0, 0] = 0, 0, 160, 160
    now = np.array([[40.0, 40.0]])
    free = choose(quality, boxes, now, hann_window(5), influence=0.0, penalty_k=0.0)
    assert free.box[0] == pytest.approx([0, 0, 160, 160])
    near = choose(quality, boxes, now, hann_window(5), influence=0.5, penalty_k=0.0)
    assert near.box[0] == pytest.approx([10, 10, 40, 40])
    choice = choose(quality, boxes, now, hann_window(5), influence=0.0, penalty_k=0.5)
    assert choice.box[0] == pytest.approx([10, 10, 40, 40])
    assert choice.penalty == 1


def test_cells_that_agree_with_the_best_are_averaged() -> None:
    quality = np.array([[[0.9, 0.6, 0.8]]])
    boxes = np.array([[0.0, 0, 40, 40], [0, 0, 40, 50], [30, 0, 70, 40]]).T[None, :, None]  # overlaps: 1, .8, .14
    window, now = np.ones((1, 3)), np.array([[40.0, 40.0]])
    best = choose(quality, boxes, now, window, influence=0.0, penalty_k=0.0)
    weights = 0.9, 0.6 * 0.8
    assert best.box[0] == pytest.approx([0, 0, 40, (40 * weights[0] + 50 * weights[1]) / sum(weights)])
    assert best.quality == 0.9
    silent = choose(0 * quality, boxes, now, window, influence=0.0, penalty_k=0.0)
    assert silent.box[0] == pytest.approx([0, 0, 40, 40])
