"""SiamFC's training: pairs of crops, the balanced loss of their response."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

from siamfast.data.augmentation import augment_pair
from siamfast.data.draws import Draws
from siamfast.geometry import STRIDE, box_centers
from siamfast.models.alexnet import INPUT_MEAN, INPUT_STD
from siamfast.models.siamfc import SiamFC
from siamfast.models.siamfc_weights import load_weights
from siamfast.ops.xcorr_balanced_loss import xcorr_balanced_loss
from siamfast.training.batches import Batch
from siamfast.training.config import SiamFCConfig
from siamfast.training.loop import Loop
from siamfast.training.pairs import make_pairs
from siamfast.training.record import Record

HIT_RADIUS = 16.0  # search-crop pixels within which a response's peak is on the target


class SiamFCTrainer(Loop):
    """Trains SiamFC by `config`, with exact resume: see `Loop`.

    >>> from siamfast.training.config import SiamFCConfig
    >>> SiamFCTrainer(SiamFCConfig(steps=2, batch_size=2, out="/tmp/run", workers=0)).run()  # doctest: +SKIP
    """

    file = "siamfc.safetensors"
    unit = "pairs"
    config: SiamFCConfig
    model: SiamFC

    def make_model(self) -> SiamFC:
        config = self.config
        if config.balance == "batch" and self.parts > 1:
            raise ValueError(
                f"balance: got 'batch', which weighs a whole batch, but it is shared out to {self.parts} processes or "
                "parts (--accumulate): use 'sample'"
            )
        model = SiamFC(
            scale=config.scale,
            learn_scale=config.learn_scale,
            learn_bias=config.learn_bias,
            input_mean=INPUT_MEAN,
            input_std=INPUT_STD,
        )
        if config.init:
            load_weights(model, config.init)
        return model

    def make_data(self, source: str, length: int, seed: int) -> Dataset[Any]:
        return make_pairs(self.config, source, length, seed=seed)

    def prepare(self, batch: Batch, random: Draws) -> Batch:
        config = self.config
        send = self._to_device(batch)
        template, search, box = augment_pair(
            send["template"],
            send["search"],
            send["box"],
            random,
            flip=config.flip,
            color_jitter=config.color_jitter,
            gray=config.gray,
            blur=config.blur,
            noise=config.noise,
            cutout=config.cutout,
        )
        return {"template": template, "search": search, "centers": self._cells(box), "positive": send["positive"]}

    def loss(self, batch: Batch) -> torch.Tensor:
        return self._responses(batch)[0]

    def _responses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the responses (N, 1, H, W) without a gradient."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            result = xcorr_balanced_loss(
                self.model.embed(batch["template"]),
                self.model.embed(batch["search"]),
                scale=self.model.scale,
                bias=self.model.bias,
                stride=STRIDE,
                r_pos=self.config.r_pos,
                r_neg=self.config.r_neg,
                metric=self.config.metric,
                balance=self.config.balance,
                return_scores=True,
                # A centre far outside labels every cell negative, as a pair without its target needs.
                centers=torch.where(batch["positive"][:, None], batch["centers"], 1e6),
            )
        assert isinstance(result, tuple)
        return result

    def _cells(self, box: torch.Tensor) -> torch.Tensor:
        return target_cells(box, self.config.instance, self.config.exemplar)

    @torch.no_grad()
    def validate(self, record: Record) -> dict[str, float]:
        """Loss, and the distance of the response's peak from the target, on pairs that are not used for training."""
        self.model.eval()
        rows = []
        for number, batch in enumerate(self.validation_batches()):
            send = self._to_device(batch)
            crops = {name: send[name].float() for name in ("template", "search")}
            centers = self._cells(send["box"])
            loss, response = self._responses(send | crops | {"centers": centers})
            response = response.float()
            distance = peak_distance(response, centers)[send["positive"]] * STRIDE
            rows.append((float(loss) * len(centers), distance.cpu()))
            if number == 0:
                record.responses(self.step, send["search"], response)
        losses, distances = zip(*self.ranks.in_turn(rows), strict=True)
        distance = torch.cat(distances)
        figures = {
            "loss": sum(losses) / self.config.val_pairs,
            "hit_rate": float((distance <= HIT_RADIUS).float().mean()),
            "peak_distance_px": float(distance.mean()),
        }
        record.scalars(self.step, {f"validation/{name}": value for name, value in figures.items()})
        return figures


def target_cells(box: torch.Tensor, instance: int, exemplar: int) -> torch.Tensor:
    """box: (N, 4) x, y, w, h in search-crop pixels -> (N, 2) its centre as (x, y) in cells of the response.

    The middle of the crop is the middle of the response, and one cell is one stride of the network.
    """
    middle = ((instance - exemplar) / STRIDE) / 2
    return middle + (box_centers(box) - instance / 2) / STRIDE


def peak_distance(response: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """response: (N, 1, H, W), centers: (N, 2) x, y in cells -> (N,) distance in cells of the peak to the centre."""
    width = response.shape[-1]
    peak = response.flatten(1).argmax(1)
    places = torch.stack((peak % width, peak.div(width, rounding_mode="floor")), 1)
    return torch.linalg.vector_norm(places - centers, dim=1)
