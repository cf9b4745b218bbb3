"""The guided tracker's training: triples of crops, a frozen encoder, and measures against relying on it alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from siamfast.data.augmentation import augment_boxes, draw_crops, jittered
from siamfast.data.draws import Draws
from siamfast.geometry import STRIDE, index_to_edge
from siamfast.models.correspondence_weights import load_encoder
from siamfast.models.guidance import BESIDE, Guidance, Guide, elsewhere
from siamfast.models.guided import GuidedSiam, Prediction
from siamfast.models.guided_weights import start_from
from siamfast.models.weights import save_weights
from siamfast.ops.augment import augment
from siamfast.ops.augment.reference import COLUMNS
from siamfast.training import signals
from siamfast.training.batches import Batch
from siamfast.training.box_losses import WEIGHTS, Targets, best_boxes, box_loss, make_targets
from siamfast.training.box_validation import Variant, validate_boxes
from siamfast.training.config import GuidedConfig
from siamfast.training.loop import Loop
from siamfast.training.pairs import make_pairs
from siamfast.training.record import Record


class GuidedTrainer(Loop):
    """Trains GuidedSiam by `config`, with exact resume: see `Loop`.

    >>> from siamfast.training.config import GuidedConfig
    >>> GuidedTrainer(GuidedConfig(steps=2, batch_size=2, out="/tmp/run", workers=0)).run()  # doctest: +SKIP
    """

    file = "guided.safetensors"
    unit = "triples"
    config: GuidedConfig
    model: GuidedSiam

    guide: Guide | None = None

    def make_model(self) -> GuidedSiam:
        model = GuidedSiam(self.config.architecture())
        model.cells(self.config.exemplar, self.config.instance)  # an error if they are too small
        if self.config.init:
            start_from(model, self.config.init)
        if model.architecture.names:
            encoder = load_encoder(self.config.encoder or None)
            encoder.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.guide = Guide(
                encoder.requires_grad_(self.config.trains_encoder), model.backbone, model.architecture.names
            )
        return model

    def trained(self) -> dict[str, torch.nn.Module]:
        if self.guide is None or not self.config.trains_encoder:
            return super().trained()
        return super().trained() | {"encoder": self.guide.encoder}

    def rests(self) -> bool:
        return self.config.freeze_backbone > 0

    def make_data(self, source: str, length: int, seed: int) -> Dataset[Any]:
        return make_pairs(self.config, source, length, seed=seed)

    # ------------------------------------------------------------------------------------------------------------ loss
    def prepare(self, batch: Batch, random: Draws) -> Batch:
        frozen = self.step < self.config.freeze_backbone
        self.model.backbone.requires_grad_(not frozen).train(not frozen)
        batch = self._augmented(self._to_device(batch), random)
        rows = len(batch["search"])
        if self.guide is not None:
            guidance = self._guidance(batch, self._previous_boxes(batch, random))
            kept = random.rand(rows) >= self.config.guidance_dropout
            batch |= _masked(guidance, kept.to(self.device))._asdict()
        return batch | {"cells": self.count_per_part(self._targets(batch).inside.sum(), rows)}

    def loss(self, batch: Batch) -> torch.Tensor:
        guidance = Guidance(*(batch[name] for name in Guidance._fields)) if self.guide is not None else None
        parts = box_loss(self._predict(batch, guidance), self._targets(batch), batch["cells"][0])
        total = sum((WEIGHTS[name] * value for name, value in parts.items()), start=torch.zeros((), device=self.device))
        return total + self._correspondence(batch) if self.config.trains_encoder else total

    def _correspondence(self, batch: Batch) -> torch.Tensor:
        """The loss that trains the encoder too, on the two neighbouring frames: colours of the search frame predicted
        from the previous one, and coordinates carried there and back (`signals`)."""
        assert self.guide is not None
        config, images = self.config, torch.stack((batch["previous"], batch["search"]), 1)
        side = images.shape[-1] - (images.shape[-1] - 1) % STRIDE  # 8 n + 1 pixels, for the cells of the signals
        images = images[..., :side, :side]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            features = self.guide.encoder(images.flatten(0, 1)).float().unflatten(0, (-1, 2))
        total = torch.zeros((), device=self.device)
        if config.color_weight > 0:
            total = total + config.color_weight * signals.frame_color_loss(features, images)
        if config.cycle_weight > 0:
            views = torch.cat((features, features[:, :1]), 1)
            axis = torch.arange(features.shape[-1], dtype=torch.float32, device=self.device)
            y, x = torch.meshgrid(axis, axis, indexing="ij")
            start = torch.stack((x, y)).expand(len(features), -1, -1, -1)
            total = total + config.cycle_weight * signals.cycle_loss(views, start, longest=1)[0]
        return total

    def export(self, path: Path, figures: dict[str, float]) -> None:
        """Write the weights, and the encoder's beside them if it was trained."""
        super().export(path, figures)
        if self.guide is not None and self.config.trains_encoder:
            save_weights(
                self.guide.encoder, path.with_name("correspondence.safetensors"), recipe=f"trained with {path.name}"
            )

    def _augmented(self, batch: Batch, random: Draws) -> Batch:
        """Apply colour, blur, noise, cut-outs and flips; mirroring and gray apply to all crops of a triple or none."""
        config = self.config
        crops: Batch = {name: batch[name] for name in ("template", "search", "previous") if name in batch}
        draws = draw_crops(
            crops,
            random,
            flip=config.flip,
            gray=config.gray,
            cutout=config.cutout,
            color_jitter=config.color_jitter,
            blur=config.blur,
            noise=config.noise,
        )
        if config.same_augmentation and "previous" in draws:
            seed = COLUMNS.index("seed")  # the noise differs per frame, and only the search crop has a cut-out
            draws["previous"][:, :seed] = draws["search"][:, :seed]
        augmented = batch | {name: augment(images, draws[name]) for name, images in crops.items()}
        for image, box in (("search", "box"), ("previous", "previous_box")):
            if image in batch:
                side = batch[image].shape[-1]
                augmented[box] = augment_boxes(batch[box], draws[image], (side, side))
        return augmented

    def _previous_boxes(self, batch: Batch, random: Draws) -> torch.Tensor:
        """(N, 4) previous boxes for the guide: the truth with errors, the model's own, or another place."""
        config, count = self.config, len(batch["search"])

        def chosen(share: float) -> torch.Tensor:
            return (random.rand(count) < share).to(self.device)

        boxes = jittered(batch["previous_box"], random.randn(count, 4).to(self.device), config.box_jitter)
        progress = min(1.0, 2 * self.step / max(1, config.steps))
        own = chosen(config.own_boxes * progress).nonzero().flatten()
        if len(own):
            boxes[own] = self._predicted_boxes(batch, own)
        angle, further = (random.rand(count).to(self.device) for _ in range(2))
        wrong = chosen(config.wrong_guidance)
        other = self.ranks.of_the_row_before(boxes[:, 2:])
        return torch.where(wrong[:, None], elsewhere(boxes, 2 * math.pi * angle, 1 + further / 2, other), boxes)

    @torch.no_grad()
    def _predicted_boxes(self, batch: Batch, chosen: torch.Tensor) -> torch.Tensor:
        """(n, 4) x, y, w, h: the model's unguided boxes in the previous frames, as while tracking."""
        self.model.eval()
        crops = {"template": batch["template"][chosen], "search": batch["previous"][chosen]}
        boxes = best_boxes(self._predict(crops, None))
        self.model.train()
        self.model.backbone.train(self.step >= self.config.freeze_backbone)
        return torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1)

    def _guidance(self, batch: Batch, boxes: torch.Tensor) -> Guidance:
        assert self.guide is not None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            return self.guide(batch["search"], batch["previous"], boxes)

    def _predict(self, batch: Batch, guidance: Guidance | None) -> Prediction:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            return self.model(self.model.template(batch["template"]), batch["search"], guidance)

    def _targets(self, batch: Batch) -> Targets:
        place = index_to_edge(self.model.places(self.config.exemplar, self.config.instance).to(self.device))
        return make_targets(batch["box"], batch["positive"], place)

    # ------------------------------------------------------------------------------------------------------ validation
    def validate(self, record: Record) -> dict[str, float]:
        """`validate_boxes` on triples that are not used for training."""
        self.model.eval()
        batches = (self._floats(batch) for batch in self.validation_batches())
        return validate_boxes(batches, self._targets, self._variants, record, self.step, self.ranks)

    def _floats(self, batch: Batch) -> Batch:
        batch = self._to_device(batch)
        return batch | {name: batch[name].float() for name in ("template", "search", "previous") if name in batch}

    def _variants(self, batch: Batch, generator: torch.Generator) -> Iterator[Variant]:
        if self.guide is None:
            yield Variant("unguided", self._predict(batch, None))
            return
        count = len(batch["search"])
        boxes = jittered(batch["previous_box"], torch.randn(count, 4, generator=generator).to(self.device), 0.1)
        angle = 2 * math.pi * torch.rand(count, generator=generator).to(self.device)
        wrong = elsewhere(boxes, angle, torch.full_like(angle, BESIDE))
        yield Variant("guided", self._predict(batch, self._guidance(batch, boxes)))
        yield Variant("unguided", self._predict(batch, None))
        yield Variant("misguided", self._predict(batch, self._guidance(batch, wrong)))


def _masked(guidance: Guidance, kept: torch.Tensor) -> Guidance:
    """The guidance, set to 0 where `kept` (N,) bool is false."""
    weight = kept.to(guidance.maps.dtype)[:, None, None]
    return Guidance(guidance.maps * weight[:, None], guidance.trust * weight[:, 0], guidance.mask * weight)
