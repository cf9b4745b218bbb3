"""The correspondence encoder's training: unlabelled clips; cycles through time, colour, or both in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from siamfast.data.augmentation import draw_augmentation
from siamfast.models.correspondence import CorrespondenceEncoder
from siamfast.models.correspondence_weights import load_encoder
from siamfast.ops.augment import augment
from siamfast.training import signals
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

    def loss(self, batch: dict[str, torch.Tensor], generator: torch.Generator) -> torch.Tensor:
        signal = self.config.signal
        if signal == "both":
            signal = ("cycle", "color")[self.step % 2]
        return self._color(batch, generator) if signal == "color" else self._cycle(batch, generator)[0]

    def _cycle(
        self, batch: dict[str, torch.Tensor], generator: torch.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features = self._embed(batch["frames"], generator, gray=False)
        places = batch["places"].to(self.device)
        longest, temperature = self.config.cycle, self.config.cycle_temperature
        return signals.cycle_loss(features, places, longest=longest, temperature=temperature)

    def _color(self, batch: dict[str, torch.Tensor], generator: torch.Generator | None) -> torch.Tensor:
        frames = batch["frames"][:, :4].to(self.device)
        labels = signals.color_labels(_colors(frames), self.clusters())
        return signals.color_loss(self._embed(frames, generator, gray=True), labels)

    def _embed(self, frames: torch.Tensor, generator: torch.Generator | None, *, gray: bool) -> torch.Tensor:
        """frames: (N, F, 3, S, S) uint8 -> features (N, F, C, n, n) float32; no generator: no augmentation."""
        count = frames.shape[1]
        images = frames.to(self.device, non_blocking=True).flatten(0, 1)
        jitter, blur = (0.0, 0.0) if generator is None else (self.config.color_jitter, self.config.blur)
        draws = draw_augmentation(
            len(images),
            (images.shape[2], images.shape[3]),
            generator or torch.Generator(),
            color_jitter=jitter,
            gray=float(gray),
            blur=blur,
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            features = self.model(augment(images, draws))
        return features.float().unflatten(0, (-1, count))

    def clusters(self) -> torch.Tensor:
        """(16, 2): colour clusters of the first clips; they depend on the data alone, so a resumed run gets the
        same."""
        if self._clusters is None:
            stop = min(-(-_CLUSTER_CLIPS // self.config.batch_size), self.config.steps)
            colors = [_colors(b["frames"][:, :4]) for b in self._loader(self._data, self._workers(), stop=stop)]
            points = torch.cat(colors).movedim(2, -1).reshape(-1, 2)
            self._clusters = signals.color_clusters(points, self.config.seed).to(self.device)
        return self._clusters

    @torch.no_grad()
    def validate(self, record: Record) -> dict[str, float]:
        """Validate both signals, whichever is trained: the colours' likelihood, and the distance of cycles from their
        start."""
        self.model.eval()
        colors, cycles = [], []
        for batch in self.validation_batches():
            cycles.append(self._cycle(batch, None)[1])
            if batch["frames"].shape[1] > 4:
                colors.append(float(self._color(batch, None)) * len(batch["frames"]))
        distance = torch.cat(cycles, 1)
        figures = {"cycle_cells": float(distance.mean()), "one_frame_cycle_cells": float(distance[0].mean())}
        if colors:
            figures["color_loss"] = sum(colors) / self.config.val_pairs
        record.scalars(self.step, {f"validation/{name}": value for name, value in figures.items()})
        return figures


def _colors(frames: torch.Tensor) -> torch.Tensor:
    """frames: (N, F, 3, S, S) uint8 -> (N, F, 2, n, n): a, b of each cell."""
    return signals.cell_colors(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
