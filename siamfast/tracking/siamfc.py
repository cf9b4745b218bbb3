"""The SiamFC tracker: one target, one template, three search scales per frame."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from siamfast.geometry import STRIDE, box_centers_by_index, boxes_around_index
from siamfast.models.alexnet import feature_size, smallest_input
from siamfast.models.inference import Embedder, choose_device
from siamfast.models.siamfc import SiamFC
from siamfast.models.siamfc_weights import load_model
from siamfast.ops.crop_and_resize import crop_and_resize
from siamfast.ops.xcorr import xcorr
from siamfast.tracking.inputs import Box, as_rgb, check_first_frame
from siamfast.tracking.opencv_crops import opencv_crops
from siamfast.tracking.response import Peak, PeakFinder
from siamfast.tracking.sequence_tracker import SequenceTracker, Track, with_fields


@dataclasses.dataclass(frozen=True)
class SiamFCTrackerConfig:
    """Hyper-parameters of SiamFC tracking (siamfc-pytorch's values; the clamps are the original's).

    exemplar, instance: sides in pixels of the template and the search crop. context_amount: share of w + h added to
    both sides of the box. scales, scale_step: search scales scale_step^(-k..k). scale_lr: how far the size follows the
    best scale. scale_penalty: factor on the responses of all scales but the middle. window_influence: weight of the
    Hann window. upsample: bicubic factor of the response. min_scale, max_scale: bounds of the size relative to the
    first box.
    """

    exemplar: int = 127
    instance: int = 255
    context_amount: float = 0.5
    scales: int = 3
    scale_step: float = 1.0375
    scale_lr: float = 0.59
    scale_penalty: float = 0.9745
    window_influence: float = 0.176
    upsample: int = 16
    min_scale: float = 0.2
    max_scale: float = 5.0

    def __post_init__(self) -> None:
        def need(name: str, right: bool, expected: str) -> None:
            if not right:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected {expected}")

        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            whole = field.type == "int"
            if isinstance(value, bool) or not isinstance(
                value, (int, np.integer) if whole else (int, float, np.number)
            ):
                raise TypeError(f"{field.name}: got {value!r}, expected {'an integer' if whole else 'a number'}")
            need(field.name, bool(np.isfinite(value)), "a finite number")
        least = smallest_input()
        need("exemplar", self.exemplar >= least, f"at least {least} pixels")
        need("instance", self.instance >= self.exemplar, f"at least the exemplar's {self.exemplar} pixels")
        need("context_amount", self.context_amount >= 0, "0 or more")
        need("scales", self.scales >= 1 and self.scales % 2 == 1, "an odd number of at least 1")
        need("scale_step", self.scale_step > 1, "more than 1")
        need("scale_lr", 0 <= self.scale_lr <= 1, "0 to 1")
        need("scale_penalty", 0 < self.scale_penalty <= 1, "more than 0, at most 1")
        need("window_influence", 0 <= self.window_influence <= 1, "0 to 1")
        need("upsample", 1 <= self.upsample <= 64, "1 to 64")
        need("min_scale", 0 < self.min_scale <= 1, "more than 0, at most 1")
        need("max_scale", self.max_scale >= 1, "at least 1")


class SiamFCTracker(SequenceTracker):
    """SiamFC's tracker (Bertinetto et al. 2016), with a size and a centre that cannot run away.

    Also a tracker for the got10k toolkit's experiments: `name`, `is_deterministic`, `track`.

    Confidence: the height of the response's peak over the map's mean, relative to that of the first frame, clipped to
    0..1. It needs no calibration of the weights; below about 0.3 the target is more often lost than not.

    Args:
        weights: a path (siamfast safetensors, or a checkpoint of siamfc-pytorch or StrangerZhang), a SiamFC, or None
            for the packaged default.
        device: "auto" (CUDA where there is one), "cpu", "cuda", ...
        precision: of the search features: "auto" (what is fastest without losing accuracy), "float32", "bfloat16",
            "float16", "int8" (CPUs with VNNI).
        crops: "siamfast", or "opencv": with precision="float32" the boxes are siamfc-pytorch's (docs/trackers.md).
        config: the hyper-parameters; `fields` (any of SiamFCTrackerConfig's) override it.

    Raises:
        ValueError, TypeError: a hyper-parameter out of range, an unknown one, a device or precision that cannot be
            used, weights of another architecture.
        OSError: weights that cannot be read.

    >>> import numpy as np
    >>> from siamfast.models.siamfc import SiamFC
    >>> frames = np.random.default_rng(0).integers(0, 256, (2, 120, 160, 3), dtype=np.uint8)
    >>> tracker = SiamFCTracker(SiamFC()).init(frames[0], (60, 40, 30, 20))
    >>> box, confidence = tracker.update(frames[1])
    >>> len(box), 0.0 <= confidence <= 1.0
    (4, True)
    """

    name = "siamfast-SiamFC"
    is_deterministic = True

    def __init__(
        self,
        weights: str | os.PathLike[str] | SiamFC | None = None,
        *,
        device: str | torch.device = "auto",
        precision: str = "auto",
        crops: str = "siamfast",
        config: SiamFCTrackerConfig | None = None,
        **fields: Any,
    ) -> None:
        self.config = with_fields("SiamFCTracker", config or SiamFCTrackerConfig(), fields)
        if crops not in ("siamfast", "opencv"):
            raise ValueError(f"crops: got {crops!r}, expected 'siamfast' or 'opencv'")
        self._by_opencv = crops == "opencv"
        self.device = choose_device(device)
        model = load_model(weights)
        self._scale, self.bias = model.scale.item(), model.bias.item()
        self._embedder = Embedder(model, self.device, precision)
        self.precision = self._embedder.precision
        c = self.config
        cells = feature_size(c.instance) - feature_size(c.exemplar) + 1
        self._find = PeakFinder(cells, c.upsample, c.scales, c.scale_penalty, c.window_influence)
        self._factors = c.scale_step ** np.arange(-(c.scales // 2), c.scales // 2 + 1, dtype=np.float64)
        self._crops = np.empty((c.scales, c.instance, c.instance, 3), dtype=np.uint8)
        self._template: torch.Tensor | None = None
        self._responses: torch.Tensor | None = None
        self._peak: Peak | None = None

    def init(self, image: Any, box: ArrayLike) -> SiamFCTracker:
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
        # As in siamfc-pytorch, the first frame's mean fills the crops of every frame.
        frame, checked, self._fill = check_first_frame(image, box)
        self._center = box_centers_by_index(checked)  # as in the crop's corner rule
        self._first_size = checked[2:]
        w, h = self._first_size.tolist()
        self._grown = 1.0  # size over the first size
        pad = self.config.context_amount * (w + h)
        self._side = float(np.sqrt((w + pad) * (h + pad)))  # side of the template's window, in image pixels
        crop = self._crop(frame, np.array([self._side]), self.config.exemplar)
        surroundings = self._crop(frame, self._search_sides(), self.config.instance, out=self._crops)
        with torch.inference_mode():
            self._template = self._embedder.template(torch.from_numpy(crop), torch.from_numpy(surroundings))
            responses = self._respond(surroundings)
        self._peak = self._find(responses)
        self._first_height = max(self._height(responses, self._peak), 1e-12)
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
        height, width = frame.shape[:2]
        sides = self._search_sides()
        crops = self._crop(frame, sides, self.config.instance, out=self._crops)
        with torch.inference_mode():
            responses = self._respond(crops)
        peak = self._peak = self._find(responses)
        # One cell of the response is one stride in the crop, which is sides[scale] image pixels wide.
        move = np.array(peak.offset) * STRIDE * sides[peak.scale] / self.config.instance
        self._center = np.clip(self._center + move, 0.0, [width - 1.0, height - 1.0])
        growth = 1 - self.config.scale_lr + self.config.scale_lr * self._factors[peak.scale]
        grown = float(np.clip(self._grown * growth, self.config.min_scale, self.config.max_scale))
        self._side *= grown / self._grown
        self._grown = grown
        confidence = self._height(responses, peak) / self._first_height
        return Track(self._box(), float(np.clip(confidence, 0.0, 1.0)))

    @property
    def response(self) -> NDArray[np.float32]:
        """The last frame's response (logits, with bias) at the chosen scale, upsampled, (272, 272) by default."""
        if self._responses is None or self._peak is None:
            raise RuntimeError("response: call init(image, box) first")
        return self._find.upsample(self._responses[self._peak.scale]) + np.float32(self.bias)

    def _search_sides(self) -> NDArray[np.float64]:
        # A window of less than a pixel cannot be cropped.
        return np.maximum(self._side * self.config.instance / self.config.exemplar * self._factors, 1.0)

    def _crop(
        self, frame: NDArray[np.uint8], sides: NDArray[np.float64], out_size: int, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        centers = np.broadcast_to(self._center, (len(sides), 2))
        if self._by_opencv:
            return opencv_crops(frame, centers, sides, out_size, self._fill)
        return crop_and_resize(frame, centers, sides, out_size, fill=self._fill, rounding="siamfc-pytorch", out=out)

    def _respond(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        assert self._template is not None
        features = self._embedder.search(torch.from_numpy(crops))
        # Without the bias: the scale penalty multiplies, and siamfc-pytorch's response has none.
        response = xcorr(self._template, features, scale=self._scale)
        self._responses = response[:, 0].float().cpu()
        return self._responses

    @staticmethod
    def _height(responses: torch.Tensor, peak: Peak) -> float:
        return peak.value - float(responses[peak.scale].mean())

    def _box(self) -> Box:
        x, y, w, h = boxes_around_index(self._center, self._first_size * self._grown).tolist()
        return x, y, w, h
