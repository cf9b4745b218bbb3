"""Find a photograph's main object without labels: a normalized cut of a backbone's features, then its outline."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.models.mobilenet import MobileNetV2

_STRIDE = 16
# Least cosines of two cells that belong together, tried in turn; and the weight between other cells.
_SIMILAR, _WEAK = (0.2, 0.3, 0.1, 0.4), 1e-5
_WORKED_AT = 200  # shorter side in pixels at which the outline is found
# Limits for a good cut-out: the share of the image's border that its cells and its pixels may touch, the overlap of
# cells and pixels, and its share of the image.
_BORDER_CELLS, _BORDER, _AGREEMENT, _SHARE = 0.25, 0.15, 0.6, (0.03, 0.65)


class Cut(NamedTuple):
    """cells (h, w) bool, of stride 16: those of the object; border: the share of the image's border cells among
    them."""

    cells: NDArray[np.bool_]
    border: float


def normalized_cut(features: NDArray[np.floating], similar: float = 0.2) -> Cut:
    """Divide the cells of an image into two groups and return the one that touches the border less.

    Sources: Shi, Malik 2000, "Normalized Cuts and Image Segmentation"; on a graph of features' similarity by Wang et
    al. 2022, "TokenCut". The second-smallest eigenvector of D^-1/2 (D - W) D^-1/2.

    Args:
        features: (C, h, w).
        similar: least cosine of two cells that belong together.
    """
    count, height, width = features.shape
    rows = features.reshape(count, -1).astype(np.float64)
    rows = (rows - rows.mean(1, keepdims=True)) / (rows.std(1, keepdims=True) + 1e-6)
    rows /= np.linalg.norm(rows, axis=0, keepdims=True) + 1e-12
    weights = np.where(rows.T @ rows > similar, 1.0, _WEAK)
    root = np.sqrt(weights.sum(1))
    _, vectors = np.linalg.eigh(weights / (root[:, None] * root[None]))
    values = (vectors[:, -2] / root).reshape(height, width)  # the second largest of the similarity
    cells = values > values.mean()
    border = _border(cells)
    return Cut(~cells, 1 - border) if border > 0.5 else Cut(cells, border)


def _border(mask: NDArray[np.bool_]) -> float:
    return float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())


def cut_out(image: NDArray[np.uint8], backbone: MobileNetV2) -> NDArray[np.bool_] | None:
    """(H, W) mask of a photograph's main object; None if none stands out from its surroundings.

    Source of the outline: Rother, Kolmogorov, Blake 2004, "GrabCut", started from the cells of `normalized_cut`.

    Args:
        image: (H, W, 3) uint8 RGB.
        backbone: with ImageNet weights, in eval mode.
    """
    height, width = image.shape[:2]
    if min(height, width) < 4 * _STRIDE:
        return None
    sides = [(side - 1) // _STRIDE * _STRIDE + 1 for side in (width, height)]
    resized = cv2.resize(image, sides, interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        features = backbone(torch.from_numpy(resized).permute(2, 0, 1)[None].float()).coarse[0].numpy()
    for similar in _SIMILAR:
        cut = normalized_cut(features, similar)
        cells = _central(cut.cells)
        mask = None if cells is None or cut.border > _BORDER_CELLS else _outlined(image, cells)
        if mask is not None:
            return mask
    return None


def _outlined(image: NDArray[np.uint8], cells: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """(H, W) mask of the object at `cells`; None if its pixels differ from its cells or cover much of the border."""
    height, width = image.shape[:2]
    scale = min(1.0, _WORKED_AT / min(height, width))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    size = (small.shape[1], small.shape[0])
    likely = cv2.resize(cells.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    marks = np.full(size[::-1], cv2.GC_BGD, np.uint8)
    marks[cv2.dilate((likely > 0.3).astype(np.uint8), np.ones((15, 15), np.uint8)) > 0] = cv2.GC_PR_BGD
    marks[likely > 0.5] = cv2.GC_PR_FGD
    if min((marks == cv2.GC_PR_FGD).sum(), (marks == cv2.GC_BGD).sum()) < 50:
        return None
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # GrabCut's colour clusters start at random
    cv2.grabCut(np.ascontiguousarray(small[..., ::-1]), marks, None, *models, 3, cv2.GC_INIT_WITH_MASK)
    mask = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, areas, _ = cv2.connectedComponentsWithStats(mask)
    if len(areas) < 2:
        return None
    largest = labels == 1 + int(np.argmax(areas[1:, cv2.CC_STAT_AREA]))
    closed = cv2.morphologyEx(largest.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    region = closed > 0
    shared = (region & (likely > 0.5)).sum() / max(1, (region | (likely > 0.5)).sum())
    if _border(region) > _BORDER or shared < _AGREEMENT or not _SHARE[0] <= region.mean() <= _SHARE[1]:
        return None
    soft = cv2.resize(closed * np.float32(1), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft > 0.5)


def _central(cells: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The connected group of cells that covers most of the image's middle."""
    count, labels = cv2.connectedComponents(cells.astype(np.uint8), connectivity=4)
    if count < 2:
        return None
    height, width = cells.shape
    y, x = np.mgrid[:height, :width]
    middle = np.exp(-((((y + 0.5) / height - 0.5) / 0.3) ** 2 + (((x + 0.5) / width - 0.5) / 0.3) ** 2) / 2)
    weights = [middle[labels == label].sum() for label in range(1, count)]
    return np.asarray(labels == 1 + int(np.argmax(weights)))
