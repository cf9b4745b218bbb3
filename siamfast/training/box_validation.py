"""Validation of trackers that predict boxes: with a guide, without one, and with a guide to a wrong place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

from siamfast.models.guided import Prediction
from siamfast.training.batches import Batch
from siamfast.training.box_losses import WEIGHTS, Targets, best_boxes, box_iou, box_loss
from siamfast.training.ranks import Ranks
from siamfast.training.record import Record


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
    ranks: Ranks,
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
        ranks: the processes that have their shares of the batches; the figures are of all.

    Returns:
        loss; NAME_overlap and NAME_hit_rate (the share of overlaps above 0.5) over the pairs that show a target.
    """
    rows: list[tuple[float, dict[str, torch.Tensor]]] = []
    for number, batch in enumerate(batches):
        # Seeded by the batch's number among those of all processes.
        generator = torch.Generator().manual_seed(number * ranks.count + ranks.rank)
        truth, loss, overlaps = targets(batch), 0.0, {}
        for place, (name, prediction) in enumerate(variants(batch, generator)):
            iou = box_iou(best_boxes(prediction), truth.boxes)[batch["positive"]]
            overlaps[name] = iou.cpu()
            if place == 0:
                parts = box_loss(prediction, truth)
                loss = float(sum(WEIGHTS[k] * v for k, v in parts.items())) * len(iou)
                if number == 0:
                    record.responses(step, batch["search"], prediction.scores[:, None])
        rows.append((loss, overlaps))
    rows = ranks.in_turn(rows)
    figures = {"loss": sum(loss for loss, _ in rows) / max(1, sum(len(next(iter(o.values()))) for _, o in rows))}
    for name in rows[0][1]:
        iou = torch.cat([overlaps[name] for _, overlaps in rows])
        figures |= {f"{name}_overlap": float(iou.mean()), f"{name}_hit_rate": float((iou > 0.5).float().mean())}
    record.scalars(step, {f"validation/{name}": value for name, value in figures.items()})
    return figures
