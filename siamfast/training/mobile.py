"""The mobile tracker's training: a template, the target's region in the last frame, and a search crop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Dataset

from siamfast.data.augmentation import augment_boxes, draw_crops, jittered
from siamfast.data.draws import Draws
from siamfast.geometry import index_to_edge
from siamfast.models.guidance import elsewhere
from siamfast.models.guided import Prediction
from siamfast.models.mobile import Located, SiamMobile
from siamfast.models.mobile_weights import start_from
from siamfast.models.mobilenet import Features
from siamfast.ops.augment import augment
from siamfast.training.batches import Batch
from siamfast.training.box_losses import WEIGHTS, Targets, box_loss, make_targets
from siamfast.training.box_validation import Variant, validate_boxes
from siamfast.training.config import MobileConfig
from siamfast.training.loop import Loop
from siamfast.training.pairs import make_pairs
from siamfast.training.record import Record

_IMAGES = {"template": "template_box", "recent": "recent_box", "search": "box"}  # a crop and its box
_BESIDE = 0.75  # distance for `elsewhere` in validation: the other box has a part of the target
# Images per call of a frozen backbone: with more, the CPU's cache overflows (16 at once: 15.9 ms each, 2: 10.3).
_CHUNK = 2


class MobileTrainer(Loop):
    """Trains SiamMobile by `config`, with exact resume: see `Loop`.

    >>> from siamfast.training.config import MobileConfig
    >>> MobileTrainer(MobileConfig(steps=2, batch_size=2, out="/tmp/run", workers=0)).run()  # doctest: +SKIP
    """

    file = "mobile.safetensors"
    unit = "triples"
    config: MobileConfig
    model: SiamMobile

    def make_model(self) -> SiamMobile:
        model = SiamMobile(self.config.architecture())
        if self.config.init:
            start_from(model, self.config.init)
        model.backbone.requires_grad_(self.config.backbone_rate > 0)
        return model

    def make_data(self, source: str, length: int, seed: int) -> Dataset[Any]:
        return make_pairs(self.config, source, length, seed=seed)

    # ------------------------------------------------------------------------------------------------------------ loss
    def prepare(self, batch: Batch, random: Draws) -> Batch:
        batch = self._cut(self._augmented(self._to_device(batch), random), random)
        rows = len(batch["search"])
        if self.config.guided:
            batch["region_box"] = self._last_boxes(batch, random)
            batch["known"] = (random.rand(rows) >= self.config.guidance_dropout).to(self.device)
        return batch | {"cells": self.count_per_part(self._targets(batch).inside.sum(), rows)}

    def loss(self, batch: Batch) -> torch.Tensor:
        region_boxes, known = batch["template_box"], torch.ones(0)
        if self.config.guided:
            region_boxes, known = batch["region_box"], batch["known"]
        parts = box_loss(self._predict(batch, region_boxes, known), self._targets(batch), batch["cells"][0])
        return sum((WEIGHTS[name] * value for name, value in parts.items()), start=torch.zeros((), device=self.device))

    def _augmented(self, batch: Batch, random: Draws) -> Batch:
        """Apply colour, blur, noise, cut-outs and flips; mirroring and gray apply to all crops of a triple or none. In
        a share of the triples the last frame is the template's."""
        config, count = self.config, len(batch["search"])
        flip, gray = (random.rand(count) < share for share in (config.flip, config.gray))
        augmented = dict(batch)
        if "recent" in batch:
            first = (random.rand(count) < config.first_frames).to(self.device)
            augmented["recent"] = torch.where(first[:, None, None, None], batch["template"], batch["recent"])
            augmented["recent_box"] = torch.where(first[:, None], batch["template_box"], batch["recent_box"])
        draws = draw_crops(
            {name: augmented[name] for name in _IMAGES if name in augmented},
            random,
            flip=flip,
            gray=gray,
            cutout=config.cutout,
            color_jitter=config.color_jitter,
            blur=config.blur,
            noise=config.noise,
        )
        for name, rows in draws.items():
            side, box = augmented[name].shape[-1], _IMAGES[name]
            augmented[name] = augment(augmented[name], rows)
            augmented[box] = augment_boxes(augmented[box], rows, (side, side))
        return augmented

    def _cut(self, batch: Batch, random: Draws) -> Batch:
        """Cut the search crops to their middles, all with one drawn side."""
        steps = (self.config.instance - self.config.smallest) // 16
        edge = 8 * random.one_for_all(steps + 1)
        if not edge:
            return batch
        shift = torch.tensor([edge, edge, 0, 0], device=self.device)
        return batch | {"search": batch["search"][..., edge:-edge, edge:-edge], "box": batch["box"] - shift}

    def _last_boxes(self, batch: Batch, random: Draws) -> torch.Tensor:
        """(N, 4) last boxes like a tracker's: the truth with errors, or another place."""
        count = len(batch["search"])
        boxes = jittered(batch["recent_box"], random.randn(count, 4).to(self.device), self.config.box_jitter)
        angle, further = (random.rand(count).to(self.device) for _ in range(2))
        wrong = (random.rand(count) < self.config.wrong_guidance).to(self.device)
        other = self.ranks.of_the_row_before(boxes[:, 2:])
        return torch.where(wrong[:, None], elsewhere(boxes, 2 * math.pi * angle, 0.5 + further / 2, other), boxes)

    def _features(self, images: torch.Tensor) -> Features:
        if self.config.backbone_rate > 0 and self.model.training:
            features: Features = self.model.backbone(images)
            return features
        with torch.no_grad():
            parts = [self.model.backbone(part) for part in images.split(_CHUNK)]
        return Features(*(torch.cat(part).float() for part in zip(*parts, strict=True)))

    def _predict(self, batch: Batch, region_boxes: torch.Tensor, known: torch.Tensor) -> Prediction:
        """known: (N,) bool, the samples with a last frame; empty: an unguided network."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            template = self.model.template(batch["template"], batch["template_box"], self._features(batch["template"]))
            last = None
            if len(known):
                last = self.model.region(batch["recent"], region_boxes, self._features(batch["recent"]))
            located: Located = self.model(template, batch["search"], last, self._features(batch["search"]), known)
        return located.prediction

    def _targets(self, batch: Batch) -> Targets:
        place = index_to_edge(self.model.places(batch["search"].shape[-1]).to(self.device))
        return make_targets(batch["box"], batch["positive"], place)

    # ------------------------------------------------------------------------------------------------------ validation
    def validate(self, record: Record) -> dict[str, float]:
        """`validate_boxes` on triples that are not used for training."""
        self.model.eval()
        batches = (self._floats(batch) for batch in self.validation_batches())
        return validate_boxes(batches, self._targets, self._variants, record, self.step, self.ranks)

    def _floats(self, batch: Batch) -> Batch:
        batch = self._to_device(batch)
        return batch | {name: batch[name].float() for name in _IMAGES if name in batch}

    def _variants(self, batch: Batch, generator: torch.Generator) -> Iterator[Variant]:
        count = len(batch["search"])
        if not self.config.guided:
            yield Variant("unguided", self._predict(batch, batch["template_box"], torch.ones(0)))
            return
        boxes = jittered(batch["recent_box"], torch.randn(count, 4, generator=generator).to(self.device), 0.08)
        angle = 2 * math.pi * torch.rand(count, generator=generator).to(self.device)
        wrong = elsewhere(boxes, angle, torch.full_like(angle, _BESIDE))
        with_last = torch.ones(count, dtype=torch.bool, device=self.device)
        yield Variant("guided", self._predict(batch, boxes, with_last))
        yield Variant("unguided", self._predict(batch, boxes, ~with_last))
        yield Variant("misguided", self._predict(batch, wrong, with_last))
