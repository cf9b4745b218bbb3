"""Agreement of masks: region similarity J and boundary accuracy F, as defined by the DAVIS benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from siamfast.io.masks import MaskImage, read_mask, read_written

BOUNDARY_TOLERANCE = 0.008  # share of the image's diagonal


class MaskScores(NamedTuple):
    """Scores of a sequence: the mean, the share of frames above 0.5, and the loss from the first to the last
    quarter."""

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
    predicted, true = _pair(mask, truth)
    union = np.count_nonzero(predicted | true)
    return float(np.count_nonzero(predicted & true) / union) if union else 1.0


def boundary_accuracy(
    mask: NDArray[np.generic], truth: NDArray[np.generic], tolerance: float = BOUNDARY_TOLERANCE
) -> float:
    """F: harmonic mean of the shares of each boundary that are near the other one; 1 if neither mask has a boundary.

    Source: Perazzi et al. 2016, 4.1, with the morphological matching of its evaluation code: near means within a disc
    of radius ceil(tolerance * diagonal) pixels, or of `tolerance` pixels if it is 1 or more.

    >>> import numpy as np
    >>> boundary_accuracy(np.eye(9), np.eye(9))
    1.0
    """
    predicted, true = _pair(mask, truth)
    ours, theirs = boundary(predicted), boundary(true)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    radius = int(tolerance if tolerance >= 1 else np.ceil(tolerance * np.hypot(*predicted.shape)))
    offset = np.arange(-radius, radius + 1)
    disc = (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.uint8)
    precision = float(ours[cv2.dilate(theirs.astype(np.uint8), disc) > 0].sum() / ours.sum())
    recall = float(theirs[cv2.dilate(ours.astype(np.uint8), disc) > 0].sum() / theirs.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) bool: pixels that differ from their right, lower or lower right neighbour, if there is one."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    edge: NDArray[np.bool_] = (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])
    # In the last row and column only the neighbour along them counts; the corner has none.
    edge[-1] = mask[-1] != padded[-2, 1:]
    edge[:, -1] = mask[:, -1] != padded[1:, -2]
    return edge


def statistics(scores: Sequence[float]) -> MaskScores:
    """Mean, recall and decay of one object's scores, frame by frame (DAVIS leaves out the first frame and the last).

    Raises:
        ValueError: no scores.
    """
    if not len(scores):
        raise ValueError("scores: got none, expected one per frame")
    values = np.asarray(scores, float)
    bounds = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1  # four quarters that share their ends
    quarters = [values[a : b + 1].mean() for a, b in pairwise(bounds)]
    return MaskScores(float(values.mean()), float((values > 0.5).mean()), float(quarters[0] - quarters[3]))


def _pair(mask: NDArray[np.generic], truth: NDArray[np.generic]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    predicted, true = np.asarray(mask).astype(bool), np.asarray(truth).astype(bool)
    if predicted.ndim != 2 or predicted.shape != true.shape or predicted.size == 0:
        raise ValueError(f"mask: got shape {predicted.shape} beside a truth of {true.shape}, expected two (H, W) alike")
    return predicted, true


def pair_masks(written: list[Path], truth: list[Path]) -> list[tuple[Path, Path]]:
    """Pair masks with their truth by name or, if no names agree, by order.

    Raises:
        ValueError: neither names nor counts agree.
    """
    by_stem = {path.stem: path for path in written}
    pairs = [(by_stem[path.stem], path) for path in truth if path.stem in by_stem]
    if not pairs and len(written) == len(truth):
        pairs = list(zip(written, truth, strict=True))
    if len(pairs) < 3:
        raise ValueError(
            f"--score: {len(pairs)} of {len(truth)} true masks (such as {truth[0].name}) belong to one of "
            f"{len(written)} masks (such as {written[0].name}), expected 3 or more"
        )
    return pairs


def shared_objects(ours: MaskImage, path: Path) -> tuple[list[int], bool]:
    """The objects of a true mask, and whether both masks have a single object, which is then taken as the same.

    Raises:
        ValueError: objects that `ours` does not have.
    """
    objects = list(read_mask(path, "--score", like=ours).objects())
    alone = len(objects) == 1 and len(ours.objects()) <= 1
    if not alone and not set(objects) <= set(ours.objects()):
        raise ValueError(
            f"--score: {path} has the objects {objects[:8]}, expected the mask's, {list(ours.objects())[:8]}"
        )
    return objects, alone


def score_masks(written: list[Path], truth: list[Path]) -> dict[int, tuple[MaskScores, MaskScores]]:
    """J and F of every object in the first true mask, over the frames with a truth except the first and the last, as in
    DAVIS.

    Raises:
        ValueError: masks that do not belong together (`pair_masks`), or are of different sizes.
    """
    pairs = pair_masks(written, truth)
    ours = read_written(pairs[0][0])
    objects, alone = shared_objects(ours, pairs[0][1])
    regions: dict[int, list[float]] = {v: [] for v in objects}
    boundaries: dict[int, list[float]] = {v: [] for v in objects}
    for path, true_path in pairs[1:-1]:
        predicted, true = read_written(path).numbers, read_mask(true_path, "--score", like=ours).numbers
        for v in objects:
            # Single objects are the same whatever their numbers (255 in one mask, an indexed 1 in the other).
            compared = (predicted > 0, true > 0) if alone else (predicted == v, true == v)
            regions[v].append(region_similarity(*compared))
            boundaries[v].append(boundary_accuracy(*compared))
    return {v: (statistics(regions[v]), statistics(boundaries[v])) for v in objects}


def score_table(scores: dict[int, tuple[MaskScores, MaskScores]]) -> str:
    """One line per object, and the means over objects, by which DAVIS ranks."""
    lines = [f"{'object':>8} {'J mean':>7} {'recall':>7} {'decay':>7} {'F mean':>7} {'recall':>7} {'decay':>7}"]
    rows = [(str(v), [*j, *f]) for v, (j, f) in scores.items()]
    means = np.mean([numbers for _, numbers in rows], 0)
    if len(rows) > 1:
        rows.append(("mean", means.tolist()))
    lines += [f"{name:>8} " + " ".join(f"{v:7.3f}" for v in numbers) for name, numbers in rows]
    return "\n".join([*lines, f"J&F mean {(means[0] + means[3]) / 2:.3f}"])
