"""The guided tracker: one search crop per frame, guided by the previous frame in the same window."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from siamfast.geometry import box_centers, box_centers_by_index, boxes_around
from siamfast.models.correspondence_weights import load_encoder
from siamfast.models.guidance import BESIDE, Guidance, Guide, elsewhere
from siamfast.models.guided import GuidedSiam, GuidedTemplate, Prediction
from siamfast.models.guided_weights import load_guided
from siamfast.models.inference import choose_device, choose_precision
from siamfast.ops.crop_and_resize import crop_and_resize
from siamfast.ops.siamfc_crops import context_size
from siamfast.tracking.anchor_free import Choice, choose, hann_window
from siamfast.tracking.inputs import as_rgb, check_first_frame
from siamfast.tracking.sequence_tracker import SequenceTracker, Track, check_ranges, with_fields

GUIDES = ("on", "off", "wrong")


@dataclasses.dataclass(frozen=True)
class GuidedTrackerConfig:
    """Hyper-parameters of guided tracking, chosen on synthetic sequences with the unguided twin of the packaged weights
    (docs/weights.md).

    exemplar, instance: sides in pixels of the template and the search crop. context_amount: share of w + h added to
    both sides of the box. window_influence: weight of the Hann window. penalty_k: strength of the penalty on a change
    of size or shape. size_lr: how far the size follows the best cell, times its score. min_side: least side of the box,
    pixels. calibrate: whether boxes are corrected by the network's error on the first frame, where the box is given: a
    head that takes the whole body for the target learns how much of it the target is. guide: "on"; "off": the network
    gets no guidance; "wrong": it gets a place beside the target. The last two are for experiments.
    """

    exemplar: int = 127
    instance: int = 303
    context_amount: float = 0.5
    window_influence: float = 0.35
    penalty_k: float = 0.1
    size_lr: float = 0.3
    min_side: float = 10.0
    calibrate: bool = True
    guide: str = "on"

    def __post_init__(self) -> None:
        check_ranges(
            self,
            ("exemplar", 87, 2048),
            ("instance", self.exemplar, 4096),
            ("context_amount", 0, 10),
            ("window_influence", 0, 1),
            ("penalty_k", 0, 10),
            ("size_lr", 0, 1),
            ("min_side", 1, 1e4),
        )
        if self.guide not in GUIDES:
            raise ValueError(f"guide: got {self.guide!r}, expected one of {', '.join(GUIDES)}")


class GuidedTracker(SequenceTracker):
    """Tracks with a GuidedSiam, with guidance if its weights were trained with it.

    Confidence: the product of the best cell's score and centre-ness, 0 to 1.

    Args:
        weights: a path (safetensors of `siamfast train --task guided`), a GuidedSiam, or None for the packaged ones.
        encoder: weights of the correspondence encoder; None: the packaged ones.
        device: "auto" (CUDA where there is one), "cpu", "cuda", ...
        precision: "auto" (bfloat16 where the device is fast at it), "float32", "bfloat16", "float16".
        fields: GuidedTrackerConfig's.

    Raises:
        ValueError, TypeError: a hyper-parameter out of range, an unknown one, a device or precision that cannot be
            used, weights of another architecture.
        OSError: weights that cannot be read.

    >>> import numpy as np
    >>> frames = np.random.default_rng(0).integers(0, 256, (2, 120, 160, 3), dtype=np.uint8)
    >>> tracker = GuidedTracker(GuidedSiam()).init(frames[0], (60, 40, 30, 20))
    >>> box, confidence = tracker.update(frames[1])
    >>> len(box), 0.0 <= confidence <= 1.0
    (4, True)
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | GuidedSiam | None = None,
        *,
        encoder: str | os.PathLike[str] | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
        **fields: Any,
    ) -> None:
        self.config = with_fields("GuidedTracker", GuidedTrackerConfig(), fields)
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device, int8=False)
        model = weights.eval() if isinstance(weights, GuidedSiam) else load_guided(weights)
        self._model: GuidedSiam = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._guide: Guide | None = None
        if model.architecture.names and self.config.guide != "off":
            network = load_encoder(encoder).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._guide = Guide(network, model.backbone, model.architecture.names)
        self.name = "siamfast-SiamGuided" if model.architecture.names else "siamfast-SiamUnguided"
        c = self.config
        self._window = hann_window(model.cells(c.exemplar, c.instance))
        self._template: GuidedTemplate | None = None
        self._guidance: Guidance | None = None
        self._quality: NDArray[np.float32] | None = None

    def init(self, image: Any, box: ArrayLike) -> GuidedTracker:
        """Take the target from the first frame.

        Args:
            image: RGB, (H, W, 3) uint8 array or PIL image.
            box: x, y, w, h in 0-based pixels.

        Returns:
            The tracker itself.

        Raises:
            ValueError: the box has no area or is outside the image.
            TypeError: not an image.
        """
        frame, self._box, self._fill = check_first_frame(image, box)
        crop = self._crop(frame, self._side(), self.config.exemplar)
        with torch.inference_mode(), self._autocast():
            self._template = self._model.template(crop)
        self._previous, self._shift, self._stretch = frame, np.zeros(2), np.ones(2)
        if self.config.calibrate:
            prediction, scale = self._search(frame)
            best = self._best(prediction, scale).box[0]
            truth = self._box[2:] * scale
            self._stretch = np.clip(truth / best[2:], 0.5, 2.0)
            off = (self.config.instance / 2 - box_centers(best)) / best[2:]
            self._shift = np.clip(off, -0.5, 0.5)
        self._guidance = None
        self._quality = np.zeros(self._window.shape, np.float32)
        return self

    def update(self, image: Any) -> Track:
        """Find the target in the next frame.

        Args:
            image: RGB, (H, W, 3) uint8 array or PIL image.

        Raises:
            RuntimeError: before `init`.
            TypeError, ValueError: not an image.
        """
        if self._template is None:
            raise RuntimeError("update: call init(image, box) first")
        frame = as_rgb(image)
        c = self.config
        prediction, scale = self._search(frame)
        box, confidence = self._choose(prediction, scale)
        middle = box_centers(self._box) + (box_centers(box) - c.instance / 2) / scale
        height, width = frame.shape[:2]
        middle = np.clip(middle, 0.0, [width, height])
        sides = np.clip(box[2:] / scale, c.min_side, [max(width, c.min_side), max(height, c.min_side)])
        self._box = boxes_around(middle, sides)
        self._previous = frame
        x, y, w, h = self._box.tolist()
        return Track((x, y, w, h), confidence)

    @property
    def response(self) -> NDArray[np.float32]:
        """The last frame's scores times centre-ness, without penalties and window, (17, 17) by default."""
        if self._quality is None:
            raise RuntimeError("response: call init(image, box) first")
        return self._quality

    @property
    def guidance(self) -> NDArray[np.float32] | None:
        """The last frame's warped mask of the target on the search crop's features, 0 to 1; None without a guide."""
        return None if self._guidance is None else self._guidance.mask[0].float().cpu().numpy()

    def _side(self) -> float:
        """Side of the template's window around the current box, frame pixels."""
        return max(1.0, float(context_size(self._box, context_amount=self.config.context_amount)))

    def _search(self, frame: NDArray[np.uint8]) -> tuple[Prediction, float]:
        """The network's prediction around the current box, and the search-crop pixels per frame pixel."""
        c = self.config
        side = self._side() * c.instance / c.exemplar  # side of the search window, frame pixels
        scale = c.instance / side
        with torch.inference_mode(), self._autocast():
            search = self._crop(frame, side, c.instance)
            self._guidance = None
            if self._guide is not None:
                before = self._crop(self._previous, side, c.instance)
                self._guidance = self._guide(search, before, self._previous_box(scale))
            assert self._template is not None
            return self._model(self._template, search, self._guidance), scale

    def _crop(self, frame: NDArray[np.uint8], side: float, out: int) -> torch.Tensor:
        crop = crop_and_resize(frame, box_centers_by_index(self._box), side, out, fill=self._fill, rounding="subpixel")
        # (1, S, S, 3) uint8 is (1, 3, S, S) in channels_last: the permutation copies nothing.
        return torch.from_numpy(crop).to(self.device).permute(0, 3, 1, 2).float()

    def _previous_box(self, scale: float) -> torch.Tensor:
        """(1, 4): the previous box in the search window, which is centred on it."""
        w, h = (self._box[2:] * scale).tolist()
        half = self.config.instance / 2
        box = torch.tensor([[half - w / 2, half - h / 2, w, h]])
        return elsewhere(box, torch.zeros(1), torch.tensor([BESIDE])) if self.config.guide == "wrong" else box

    def _autocast(self) -> torch.autocast:
        dtype = torch.bfloat16 if self.precision == "float32" else getattr(torch, self.precision)
        return torch.autocast(self.device.type, dtype, enabled=self.precision != "float32")

    def _choose(self, prediction: Prediction, scale: float) -> tuple[NDArray[np.float64], float]:
        """The box x, y, w, h in the search crop, calibrated and with a smoothed size, and its confidence."""
        best = self._best(prediction, scale)
        box, quality, penalty = best.box[0], best.quality.item(), best.penalty.item()
        rate = penalty * quality * self.config.size_lr
        middle = box_centers(box) + box[2:] * self._shift
        size = self._box[2:] * scale * (1 - rate) + box[2:] * self._stretch * rate
        return boxes_around(middle, size), quality

    def _best(self, prediction: Prediction, scale: float) -> Choice:
        """The network's best cell, not calibrated: a choice for one map."""
        c = self.config
        quality = (torch.sigmoid(prediction.scores) * torch.sigmoid(prediction.centerness)).cpu().numpy()
        self._quality = quality[0].astype(np.float32)
        return choose(
            quality,
            prediction.boxes.cpu().numpy(),
            self._box[None, 2:] * scale,
            self._window,
            influence=c.window_influence,
            penalty_k=c.penalty_k,
            stretch=self._stretch[None],
        )
