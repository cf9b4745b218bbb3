"""The mobile tracker: one search crop per frame, guided by its own features around the previous target."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from siamfast.geometry import box_centers, box_centers_by_index, boxes_around, cell_coverage, index_to_edge
from siamfast.models.inference import choose_device, choose_precision
from siamfast.models.mobile import EXEMPLAR, INSTANCE, SiamMobile
from siamfast.models.mobile_engine import (
    ENGINES,
    Engine,
    OnnxEngine,
    Search,
    TorchEngine,
    graph_path,
    onnxruntime_missing,
)
from siamfast.models.mobile_export import digest
from siamfast.models.mobile_weights import DEFAULT_NAME, load_mobile
from siamfast.models.weights import default_weights
from siamfast.ops.crop_and_resize import crop_and_resize
from siamfast.ops.siamfc_crops import context_size
from siamfast.tracking.anchor_free import Choice, choose, hann_window
from siamfast.tracking.inputs import as_rgb, check_first_frame
from siamfast.tracking.sequence_tracker import SequenceTracker, Track, check_ranges, with_fields

GUIDES = ("on", "off", "wrong")
# Where a lost target is searched: places in rings around the last one, this share of a search crop's side apart, taken
# in turn; and their number per frame. Twelve rings are 22 sides of the target.
_ASIDE, _RINGS, _PLACES_A_FRAME = 0.75, 12, 2
_PLACES = sorted(
    ((x, y) for x in range(-_RINGS, _RINGS + 1) for y in range(-_RINGS, _RINGS + 1) if x or y),
    key=lambda place: (max(abs(place[0]), abs(place[1])), (3 * place[0] + 5 * place[1]) % 8),
)


@dataclasses.dataclass(frozen=True)
class MobileTrackerConfig:
    """Hyper-parameters of mobile tracking; docs/weights.md says how they were chosen.

    Attributes:
        instance: side of the search crop in pixels, a multiple of 16 and 1 more; the template's is 129.
        context_amount: share of w + h added to both sides of the box.
        window_influence: weight of the Hann window.
        penalty_k: strength of the penalty on a change of size or shape.
        size_lr: how far the size follows the best cell, times its quality.
        min_side: least side of the box, pixels.
        guide: "on": the target's region in the last frame is matched too; "off": it is not; "wrong": a place beside the
            target is matched instead. The last two are for experiments.
        guide_confidence: least quality for a frame's region to become the guide.
        lost_confidence: below this quality the target may be elsewhere: two more places are searched, further away with
            every frame, out to 22 sides of the target. 0: never.
        found_confidence: least quality for the target to be accepted at such a place.
        calibrate: how far boxes are corrected by the network's error on the first frame, where the box is given: 0, not
            at all; 1, fully (sides by their ratio to this power).
    """

    instance: int = INSTANCE
    context_amount: float = 0.55
    window_influence: float = 0.35
    penalty_k: float = 0.1
    size_lr: float = 0.4
    min_side: float = 4.0
    guide: str = "on"
    guide_confidence: float = 0.55
    lost_confidence: float = 0.2
    found_confidence: float = 0.4
    calibrate: float = 0.5

    def __post_init__(self) -> None:
        SiamMobile.cells(self.instance)
        check_ranges(
            self,
            ("context_amount", 0, 10),
            ("window_influence", 0, 1),
            ("penalty_k", 0, 10),
            ("size_lr", 0, 1),
            ("min_side", 1, 1e4),
            ("guide_confidence", 0, 1),
            ("lost_confidence", 0, 1),
            ("found_confidence", 0, 1),
            ("calibrate", 0, 1),
        )
        if self.guide not in GUIDES:
            raise ValueError(f"guide: got {self.guide!r}, expected one of {', '.join(GUIDES)}")


class MobileTracker(SequenceTracker):
    """Tracks with a SiamMobile; the default tracker.

    Confidence: the best cell's score times its centre-ness (its quality), times the resemblance of its box's cells to
    the template's target, relative to that in the first frame; then the mean with the last frame's confidence, 0 to 1.

    Args:
        weights: a path (safetensors of `siamfast train --task mobile`), a SiamMobile, or None for the packaged ones.
        device: "auto" (CUDA where there is one), "cpu", "cuda", ...
        precision: "auto" (what is fastest without losing accuracy), "float32", "int8" (onnxruntime, CPUs with VNNI),
            "bfloat16", "float16" (PyTorch).
        engine: "torch"; "onnxruntime", for CPUs, which runs the graph beside the weights (int8 where the CPU has VNNI);
            "auto": onnxruntime if it is installed, the device is a CPU, and a graph of that precision exists.
        fields: MobileTrackerConfig's.

    Raises:
        ValueError, TypeError: a hyper-parameter out of range, an unknown one, a device, precision or engine that cannot
            be used, weights of another architecture.
        OSError: weights that cannot be read.

    >>> import numpy as np
    >>> frames = np.random.default_rng(0).integers(0, 256, (2, 120, 160, 3), dtype=np.uint8)
    >>> tracker = MobileTracker().init(frames[0], (60, 40, 30, 20))
    >>> box, confidence = tracker.update(frames[1])
    >>> len(box), 0.0 <= confidence <= 1.0
    (4, True)
    """

    name = "siamfast-SiamMobile"

    def __init__(
        self,
        weights: str | os.PathLike[str] | SiamMobile | None = None,
        *,
        device: str | torch.device = "auto",
        precision: str = "auto",
        engine: str = "auto",
        **fields: Any,
    ) -> None:
        self.config = with_fields("MobileTracker", MobileTrackerConfig(), fields)
        self.device = choose_device(device)
        path: Path | None = None
        if isinstance(weights, SiamMobile):
            model = weights.eval()
        else:
            path = default_weights(DEFAULT_NAME) if weights is None else Path(weights)
            model = load_mobile(path)
        self.runner = _make_engine(model, path, self.device, precision, engine, self.config.instance)
        self.engine, self.precision = self.runner.name, self.runner.precision
        self._window = hann_window(SiamMobile.cells(self.config.instance))
        self._places = index_to_edge(SiamMobile.places(self.config.instance).double().numpy())
        self._quality: NDArray[np.float32] | None = None

    def init(self, image: Any, box: ArrayLike) -> MobileTracker:
        """Take the target from the first frame.

        Args:
            image: RGB, (H, W, 3) uint8 array or PIL image. box: x, y, w, h in 0-based pixels.

        Returns:
            The tracker itself.

        Raises:
            ValueError: the box has no area or is outside the image. TypeError: not an image.
        """
        frame, self._box, self._fill = check_first_frame(image, box)
        side = self._side()
        sides = self._box[2:] * EXEMPLAR / side
        self.runner.start(self._crop(frame, side, EXEMPLAR), boxes_around(np.full(2, EXEMPLAR / 2), sides))
        self._stretch, self._shift, self._turn = np.ones(2), np.zeros(2), -1
        best, search = self._search(frame)
        self._confidence, self._first_resemblance = 1.0, max(self._resemblance(best, search), 1e-6)
        if self.config.calibrate:
            box, scale = best.box, self._scale()
            self._stretch = np.clip(self._box[2:] * scale / box[2:], 0.5, 2.0) ** self.config.calibrate
            off = np.clip((self.config.instance / 2 - box_centers(box)) / box[2:], -0.5, 0.5)
            self._shift = off * self.config.calibrate
        self._quality = np.zeros(self._window.shape, np.float32)
        return self

    def update(self, image: Any) -> Track:
        """Find the target in the next frame.

        Args:
            image: RGB, (H, W, 3) uint8 array or PIL image.

        Raises:
            RuntimeError: before `init`. TypeError, ValueError: not an image.
        """
        if self._quality is None:
            raise RuntimeError("update: call init(image, box) first")
        frame, c = as_rgb(image), self.config
        scale = self._scale()
        best, search = self._search(frame)
        if best.quality < c.lost_confidence:
            best, search = self._search_around(frame, best, search)
        else:
            self._turn = -1
        self._quality = search.quality
        # Calibrated: x, y of the middle and the sides, search-crop pixels.
        middle = box_centers(best.box) + best.box[2:] * self._shift
        sides = best.box[2:] * self._stretch
        if c.guide != "off" and best.quality >= c.guide_confidence:
            beside = [sides[0], 0] if c.guide == "wrong" else [0, 0]
            self.runner.remember(search, boxes_around(middle + beside, sides))
        rate = best.penalty * best.quality * c.size_lr
        size = (self._box[2:] * scale * (1 - rate) + sides * rate) / scale
        place = box_centers(self._box) + (middle - c.instance / 2) / scale
        height, width = frame.shape[:2]
        place = np.clip(place, 0.0, [width, height])
        size = np.clip(size, c.min_side, [max(width, c.min_side), max(height, c.min_side)])
        self._box = boxes_around(place, size)
        sure = best.quality * min(1.0, self._resemblance(best, search) / self._first_resemblance)
        self._confidence = (self._confidence + sure) / 2
        x, y, w, h = self._box.tolist()
        return Track((x, y, w, h), self._confidence)

    @property
    def response(self) -> NDArray[np.float32]:
        """The last frame's scores times centre-ness, without penalties and window: (19, 19) by default."""
        if self._quality is None:
            raise RuntimeError("response: call init(image, box) first")
        return self._quality

    def _search(self, frame: NDArray[np.uint8]) -> tuple[Choice, Search]:
        """The best cell around the current box, not calibrated, and the network's output there."""
        c, scale = self.config, self._scale()
        search = self.runner.search(self._crop(frame, c.instance / scale, c.instance), guided=c.guide != "off")
        best = choose(
            search.quality,
            search.boxes,
            self._box[2:] * scale,
            self._window,
            influence=c.window_influence,
            penalty_k=c.penalty_k,
            stretch=self._stretch,
        )
        return best, search

    def _search_around(self, frame: NDArray[np.uint8], best: Choice, search: Search) -> tuple[Choice, Search]:
        """Search beside the last place. If the target is found, move the box there and return the result; else return
        the arguments."""
        box, step = self._box, _ASIDE * self.config.instance / self._scale()
        height, width = frame.shape[:2]
        left = _PLACES_A_FRAME
        for _ in _PLACES:
            self._turn = (self._turn + 1) % len(_PLACES)
            self._box = box + np.append(np.multiply(_PLACES[self._turn], step), [0, 0])
            x, y = box_centers(self._box)
            if 0 <= x < width and 0 <= y < height:
                other_best, other_search = self._search(frame)
                if other_best.quality >= self.config.found_confidence:
                    return other_best, other_search
                left -= 1
            if not left:
                break
        self._box = box
        return best, search

    def _resemblance(self, best: Choice, search: Search) -> float:
        """Mean resemblance of the cells of a box to the template's target, 0 to 1. The guide has no part in it: once it
        is on another object, it would confirm that object."""
        left, top, w, h = best.box
        across, down = cell_coverage(left, w, self._places), cell_coverage(top, h, self._places)
        return float(down @ search.resemblance @ across / max(down.sum() * across.sum(), 1e-9))

    def _scale(self) -> float:
        """Crop pixels per frame pixel."""
        return EXEMPLAR / self._side()

    def _side(self) -> float:
        """Side of the template's window around the current box, frame pixels."""
        return max(1.0, float(context_size(self._box, context_amount=self.config.context_amount)))

    def _crop(self, frame: NDArray[np.uint8], side: float, out: int) -> NDArray[np.uint8]:
        center = box_centers_by_index(self._box)
        crop: NDArray[np.uint8] = crop_and_resize(frame, center, side, out, fill=self._fill, rounding="subpixel")
        return crop


def _make_engine(
    model: SiamMobile, path: Path | None, device: torch.device, precision: str, engine: str, instance: int
) -> Engine:
    if engine not in ENGINES:
        raise ValueError(f"engine: got {engine!r}, expected one of {', '.join(ENGINES)}")
    missing = onnxruntime_missing(path, instance, precision)
    if device.type != "cpu":
        missing = f"it runs on the CPU only, not on {device.type!r}"
    if engine == "onnxruntime" and missing is not None:
        raise ValueError(f"engine: got 'onnxruntime', but {missing}")
    if engine != "torch" and missing is None and path is not None:
        graph = graph_path(path, precision)
        assert graph is not None
        onnx_engine = OnnxEngine(model, graph)
        if onnx_engine.digest != digest(path):
            raise ValueError(f"engine: {graph} was made of other weights than {path}: run siamfast export {path}")
        return onnx_engine
    return TorchEngine(model, device, choose_precision(precision, device, int8=False))
