"""Targets and losses of an anchor-free head: focal classification, centre-ness, and overlap of boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from siamfast.models.guided import Prediction

WEIGHTS = {"classification": 1.0, "centerness": 1.0, "overlap": 3.0}  # as in video_analyst


class Targets(NamedTuple):
    """inside (N, h, w) bool: cells in the target; centerness (N, h, w), 0 outside; boxes (N, 4) left, top, right,
    bottom."""

    inside: torch.Tensor
    centerness: torch.Tensor
    boxes: torch.Tensor


def make_targets(boxes: torch.Tensor, positive: torch.Tensor, place: torch.Tensor) -> Targets:
    """The training targets of the cells.

    Source: Tian et al. 2019, "FCOS", eq. 1 and 3, on one level.

    Args:
        boxes: (N, 4) x, y, w, h in search-crop pixels, from the edge of the first.
        positive: (N,) bool: the crop shows the target; in other crops no cell is inside.
        place: (n,) the cells' positions along both sides, in the same pixels.
    """
    left, top = boxes[:, :2].T[..., None, None]
    right, bottom = (boxes[:, :2] + boxes[:, 2:]).T[..., None, None]
    across, down = place.view(1, 1, -1), place.view(1, -1, 1)
    near = torch.minimum(across - left, right - across), torch.minimum(down - top, bottom - down)
    far = torch.maximum(across - left, right - across), torch.maximum(down - top, bottom - down)
    inside = (near[0] > 0) & (near[1] > 0) & positive.view(-1, 1, 1)
    ratios = (near[0] / far[0]) * (near[1] / far[1])
    center = torch.where(inside, ratios.clamp_min(0), 0.0).sqrt()
    return Targets(inside, center, torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1))


def box_iou(boxes: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Intersection over union of (..., 4) left, top, right, bottom, element by element: (...)."""
    low, high = torch.maximum(boxes[..., :2], truth[..., :2]), torch.minimum(boxes[..., 2:], truth[..., 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    sizes = ((v[..., 2:] - v[..., :2]).clamp_min(0).prod(-1) for v in (boxes, truth))
    return shared / (sum(sizes) - shared).clamp_min(1e-6)


def box_loss(prediction: Prediction, targets: Targets, cells: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """The three parts of the loss, each divided by the number of cells inside.

    cells: what to divide by instead: for a part of a batch, the mean number of cells inside over the batch's parts.

    classification: focal loss (alpha 0.25, gamma 2; Lin et al. 2017, eq. 5) summed over all cells; centerness: binary
    cross-entropy, overlap: 1 - IoU, both summed over the cells inside.
    """
    if cells is None:
        cells = targets.inside.sum().clamp_min(1)
    labels = targets.inside.to(prediction.scores.dtype)
    entropy = F.binary_cross_entropy_with_logits(prediction.scores, labels, reduction="none")
    wrong = torch.where(targets.inside, torch.sigmoid(-prediction.scores), torch.sigmoid(prediction.scores))
    share = torch.where(targets.inside, 0.25, 0.75)
    boxes = prediction.boxes.permute(0, 2, 3, 1)[targets.inside]
    truth = targets.boxes[:, None, None].expand(*targets.inside.shape, 4)[targets.inside]
    center = F.binary_cross_entropy_with_logits(
        prediction.centerness[targets.inside], targets.centerness[targets.inside], reduction="sum"
    )
    return {
        "classification": (share * wrong**2 * entropy).sum() / cells,
        "centerness": center / cells,
        "overlap": (1 - box_iou(boxes, truth)).sum() / cells,
    }


def best_boxes(prediction: Prediction) -> torch.Tensor:
    """(N, 4) left, top, right, bottom of the cell with the highest product of score and centre-ness."""
    quality = (torch.sigmoid(prediction.scores) * torch.sigmoid(prediction.centerness)).flatten(1)
    best = quality.argmax(1)
    return prediction.boxes.flatten(2)[torch.arange(len(best), device=best.device), :, best]
