"""How well masks agree: region similarity J and boundary accuracy F, as the DAVIS benchmark defines them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

BOUNDARY_TOLERANCE = 0.008  # of the image's diagonal


class MaskScores(NamedTuple):
    """Over a sequence: the mean, the share of frames above 0.5, and how much is lost from first to last quarter."""

    mean: float
    recall: float
    decay: float


def region_similarity(mask: NDArray[np.generic], truth: NDArray[np.generic]) -> float:
    """J: intersection over union of two masks; 1 where both are empty.

    Source: Perazzi et al. 2016, "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", 4.1.

    Args:
        mask, truth: (H, W), 0 or False outside.

    Raises:
        ValueError: masks of different shapes, or not (H, W).

    >>> import numpy as np
    >>> region_similarity(np.eye(2), np.ones((2, 2)))
    0.5
    """
    found, true = _pair(mask, truth)
    union = np.count_nonzero(found | true)
    return float(np.count_nonzero(found & true) / union) if union else 1.0


def boundary_accuracy(
    mask: NDArray[np.generic], truth: NDArray[np.generic], tolerance: float = BOUNDARY_TOLERANCE
) -> float:
    """F: harmonic mean of the shares of both boundaries that lie near the other one; 1 where neither has any.

    Source: Perazzi et al. 2016, 4.1, with the morphological matching of its evaluation code: near is within a disc of
    radius ceil(tolerance * diagonal) pixels, or `tolerance` pixels itself where it is 1 or more.

    >>> import numpy as np
    >>> boundary_accuracy(np.eye(9), np.eye(9))
    1.0
    """
    found, true = _pair(mask, truth)
    ours, theirs = boundary(found), boundary(true)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    radius = int(tolerance if tolerance >= 1 else np.ceil(tolerance * np.hypot(*found.shape)))
    offset = np.arange(-radius, radius + 1)
    disc = (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.uint8)
    precision = float(ours[cv2.dilate(theirs.astype(np.uint8), disc) > 0].sum() / ours.sum())
    recall = float(theirs[cv2.dilate(ours.astype(np.uint8), disc) > 0].sum() / theirs.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) bool: pixels that differ from their right, lower or lower right neighbour, where there is one."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    edge: NDArray[np.bool_] = (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])
    # In the last row and column only the neighbour along it counts; the corner has none.
    edge[-1] = mask[-1] != padded[-2, 1:]
    edge[:, -1] = mask[:, -1] != padded[1:, -2]
    return edge


def statistics(scores: Sequence[float]) -> MaskScores:
    """Mean, recall and decay of one object's scores, frame by frame (DAVIS leaves out the first frame and the last).

    Raises:
        ValueError: no scores.
    """
    if not len(scores):
        raise ValueError("scores: got none, expected one a frame")
    values = np.asarray(scores, float)
    bounds = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1  # four stretches, ends shared
    quarters = [values[a : b + 1].mean() for a, b in pairwise(bounds)]
    return MaskScores(float(values.mean()), float((values > 0.5).mean()), float(quarters[0] - quarters[3]))


def _pair(mask: NDArray[np.generic], truth: NDArray[np.generic]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    found, true = np.asarray(mask).astype(bool), np.asarray(truth).astype(bool)
    if found.ndim != 2 or found.shape != true.shape or found.size == 0:
        raise ValueError(f"mask: got shape {found.shape} beside a truth of {true.shape}, expected two (H, W) alike")
    return found, true
