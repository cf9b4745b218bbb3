"""Validation of trackers that predict boxes: with a guide, without one, and with a guide to a wrong place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

from siamfast.models.guided import Prediction
from siamfast.training.box_losses import WEIGHTS, Targets, best_boxes, box_iou, box_loss
from siamfast.training.record import Record

Batch = dict[str, torch.Tensor]


class Variant(NamedTuple):
    """A kind of guidance, and the network's prediction with it."""

    name: str
    prediction: Prediction


@torch.no_grad()
def validate_boxes(
    batches: Iterable[Batch],
    targets: Callable[[Batch], Targets],
    variants: Callable[[Batch, torch.Generator], Iterable[Variant]],
    record: Record,
    step: int,
) -> dict[str, float]:
    """Loss of the first variant, and for each variant the overlap of the best cell's box with the target.

    A network that relies too much on its guide gets worse with a wrong one.

    Args:
        batches: on the network's device, images as floats.
        targets: makes the targets of a batch.
        variants: makes the variants of a batch, with random numbers from the generator alone. The first is the
            tracker's own.
        record: gets the figures, and the first batch's responses.
        step: the training step.

    Returns:
        loss; NAME_overlap and NAME_hit_rate (the share of overlaps above 0.5) over the pairs that show a target.
    """
    losses: list[float] = []
    overlaps: dict[str, list[torch.Tensor]] = {}
    generator = torch.Generator().manual_seed(0)
    for number, batch in enumerate(batches):
        truth = targets(batch)
        for place, (name, prediction) in enumerate(variants(batch, generator)):
            iou = box_iou(best_boxes(prediction), truth.boxes)[batch["positive"]]
            overlaps.setdefault(name, []).append(iou)
            if place == 0:
                parts = box_loss(prediction, truth)
                losses.append(float(sum(WEIGHTS[k] * v for k, v in parts.items())) * len(iou))
                if number == 0:
                    record.responses(step, batch["search"], prediction.scores[:, None])
    figures = {"loss": sum(losses) / max(1, sum(map(len, next(iter(overlaps.values())))))}
    for name, values in overlaps.items():
        iou = torch.cat(values)
        figures |= {f"{name}_overlap": float(iou.mean()), f"{name}_hit_rate": float((iou > 0.5).float().mean())}
    record.scalars(step, {f"validation/{name}": value for name, value in figures.items()})
    return figures
