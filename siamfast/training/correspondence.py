"""The correspondence encoder's training: unlabelled clips; cycles through time, colour, or both in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from siamfast.data.augmentation import draw_augmentation
from siamfast.data.draws import Draws
from siamfast.models.correspondence import CorrespondenceEncoder
from siamfast.models.correspondence_weights import load_encoder
from siamfast.ops.augment import augment
from siamfast.training import signals
from siamfast.training.batches import Batch
from siamfast.training.config import CorrespondenceConfig
from siamfast.training.loop import Loop
from siamfast.training.record import Record

_CLUSTER_CLIPS = 64  # clips from which the colour clusters are made


class CorrespondenceTrainer(Loop):
    """Trains CorrespondenceEncoder by `config`, with exact resume: see `Loop`.

    With signal "both", odd steps learn from cycles in colour frames, and even steps predict the colours of gray frames:
    in one batch for both, the colours to predict would be visible.

    >>> from siamfast.training.config import CorrespondenceConfig
    >>> CorrespondenceTrainer(CorrespondenceConfig(steps=2, out="/tmp/run")).run()  # doctest: +SKIP
    """

    file = "correspondence.safetensors"
    unit = "clips"
    config: CorrespondenceConfig
    model: CorrespondenceEncoder

    def __init__(self, config: CorrespondenceConfig) -> None:
        super().__init__(config)
        self._clusters: torch.Tensor | None = None  # (16, 2) a, b

    def make_model(self) -> CorrespondenceEncoder:
        if not self.config.init:
            return CorrespondenceEncoder(width=self.config.width)
        model = load_encoder(self.config.init)
        if model.width != self.config.width:
            raise ValueError(f"width: got {self.config.width}, but the weights of --init have {model.width}")
        return model

    def make_data(self, source: str, length: int, seed: int) -> Dataset[Any]:
        from siamfast.data.clips import FolderClips, SyntheticClips

        config = self.config
        frames = config.cycle + 1 if config.signal == "cycle" else max(4, config.cycle + 1)
        options = {"seed": seed, "frames": frames, "side": config.side, "max_gap": config.max_gap}
        if source == "synthetic":
            return SyntheticClips(length, **options)
        if not Path(source).is_dir():
            raise ValueError(f"data: {source!r} is neither 'synthetic' nor a folder")
        return FolderClips(source, length, **options)

    def prepare(self, batch: Batch, random: Draws) -> Batch:
        signal = self.config.signal
        if signal == "both":
            signal = ("cycle", "color")[self.step % 2]
        return self._color_views(batch, random) if signal == "color" else self._cycle_views(batch, random)

    def loss(self, batch: Batch) -> torch.Tensor:
        return self._color(batch) if "labels" in batch else self._cycle(batch)[0]

    def _cycle_views(self, batch: Batch, random: Draws | None) -> Batch:
        places = batch["places"].to(self.device)
        cells = self.count_per_part(signals.visible_cells(places).sum(), len(places)) if random is not None else None
        views = {"views": self._views(batch["frames"], random, gray=False), "places": places}
        return views if cells is None else views | {"cells": cells}

    def _cycle(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        longest, temperature = self.config.cycle, self.config.cycle_temperature
        cells = batch["cells"][0] if "cells" in batch else None
        features = self._features(batch["views"])
        return signals.cycle_loss(features, batch["places"], longest=longest, temperature=temperature, cells=cells)

    def _color_views(self, batch: Batch, random: Draws | None) -> Batch:
        frames = batch["frames"][:, :4].to(self.device)
        labels = signals.color_labels(_colors(frames), self.clusters())
        return {"views": self._views(frames, random, gray=True), "labels": labels}

    def _color(self, batch: Batch) -> torch.Tensor:
        return signals.color_loss(self._features(batch["views"]), batch["labels"])

    def _views(self, frames: torch.Tensor, random: Draws | None, *, gray: bool) -> torch.Tensor:
        """frames: (N, F, 3, S, S) uint8 -> the same, float32, augmented; random None: only made gray."""
        images = frames.to(self.device, non_blocking=True).flatten(0, 1)
        jitter, blur = (0.0, 0.0) if random is None else (self.config.color_jitter, self.config.blur)
        draws = draw_augmentation(
            len(images),
            (images.shape[2], images.shape[3]),
            random or torch.Generator(),
            color_jitter=jitter,
            gray=float(gray),
            blur=blur,
        )
        return augment(images, draws).unflatten(0, frames.shape[:2])

    def _features(self, views: torch.Tensor) -> torch.Tensor:
        """views: (N, F, 3, S, S) -> features (N, F, C, n, n) float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            features = self.model(views.flatten(0, 1))
        return features.float().unflatten(0, views.shape[:2])

    def clusters(self) -> torch.Tensor:
        """(16, 2): colour clusters of the first clips; they depend on the data alone, so a resumed run gets the
        same."""
        if self._clusters is None:
            stop = min(-(-_CLUSTER_CLIPS // self.config.batch_size), self.config.steps)
            batches = self.loader(self._data, self.config.batch_size, stop=stop)
            colors = [_colors(batch["frames"][:, :4]) for batch in batches]
            points = torch.cat(colors).movedim(2, -1).reshape(-1, 2)
            self._clusters = signals.color_clusters(points, self.config.seed).to(self.device)
        return self._clusters

    @torch.no_grad()
    def validate(self, record: Record) -> dict[str, float]:
        """Validate both signals, whichever is trained: the colours' likelihood, and the distance of cycles from their
        start."""
        self.model.eval()
        rows = []
        for batch in self.validation_batches():
            distance, color = self._cycle(self._cycle_views(batch, None))[1], None
            if batch["frames"].shape[1] > 4:
                color = float(self._color(self._color_views(batch, None))) * len(batch["frames"])
            rows.append((distance.cpu(), color))
        distances, colors = zip(*self.ranks.in_turn(rows), strict=True)
        distance = torch.cat(distances, 1)
        figures = {"cycle_cells": float(distance.mean()), "one_frame_cycle_cells": float(distance[0].mean())}
        if colors[0] is not None:
            figures["color_loss"] = sum(colors) / self.config.val_pairs
        record.scalars(self.step, {f"validation/{name}": value for name, value in figures.items()})
        return figures


def _colors(frames: torch.Tensor) -> torch.Tensor:
    """frames: (N, F, 3, S, S) uint8 -> (N, F, 2, n, n): a, b of each cell."""
    return signals.cell_colors(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
