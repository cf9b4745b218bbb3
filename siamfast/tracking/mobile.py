"""The mobile tracker: one search crop per frame, guided by its own features around the previous target."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from siamfast.models.inference import choose_device, choose_precision
from siamfast.models.mobile import SiamMobile
from siamfast.models.mobile_engine import Engine, TorchEngine
from siamfast.models.mobile_onnx import OnnxEngine, graph_path, onnxruntime_missing
from siamfast.models.mobile_weights import DEFAULT_NAME, load_mobile
from siamfast.models.weights import default_weights
from siamfast.tracking.inputs import as_rgb, check_first_frame
from siamfast.tracking.mobile_config import MobileTrackerConfig
from siamfast.tracking.mobile_targets import MobileTargets
from siamfast.tracking.sequence_tracker import SequenceTracker, Track, with_fields

ENGINES = ("auto", "torch", "onnxruntime")


class MobileTracker(SequenceTracker):
    """Tracks with a SiamMobile; the default tracker.

    Confidence: the best cell's score times its centre-ness (its quality), times the resemblance of its box's cells to
    the template's target, relative to that in the first frame; then the mean with the last frame's confidence, 0 to 1.

    Args:
        weights: a path (safetensors of `siamfast train --task mobile`), a SiamMobile, or None for the packaged ones.
        device: "auto" (CUDA where there is one, but the CPU for onnxruntime), "cpu", "cuda", ...
        precision: "auto" (what is fastest without losing accuracy), "float32", "int8" (onnxruntime, CPUs with VNNI),
            "bfloat16", "float16" (PyTorch).
        engine: "torch"; "onnxruntime", for CPUs, which runs the graphs beside the weights (int8 where the CPU has
            VNNI); "auto": onnxruntime if it is installed, the device is a CPU, and a graph of that precision exists.
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
        on_cpu = engine == "onnxruntime" and device == "auto"  # the only device that it runs on
        self.device = choose_device("cpu" if on_cpu else device)
        path: Path | None = None
        if isinstance(weights, SiamMobile):
            model = weights.eval()
        else:
            path = default_weights(DEFAULT_NAME) if weights is None else Path(weights)
            model = load_mobile(path)
        self.runner = _make_engine(model, path, self.device, precision, engine, self.config.instance)
        self.engine, self.precision = self.runner.name, self.runner.precision
        self._targets: MobileTargets | None = None

    def init(self, image: Any, box: ArrayLike) -> MobileTracker:
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
        frame, box_, fill = check_first_frame(image, box)
        self._targets = MobileTargets(self.runner, self.config)
        self._targets.add(frame, box_[None], fill)
        return self

    def update(self, image: Any) -> Track:
        """Find the target in the next frame.

        Args:
            image: RGB, (H, W, 3) uint8 array or PIL image.

        Raises:
            RuntimeError: before `init`.
            TypeError, ValueError: not an image.
        """
        if self._targets is None:
            raise RuntimeError("update: call init(image, box) first")
        self._targets.update(as_rgb(image))
        x, y, w, h = self._targets.boxes[0].tolist()
        return Track((x, y, w, h), float(self._targets.confidence[0]))

    @property
    def lost(self) -> bool:
        """Whether the target was not found in the last frame; it is then searched further and further away."""
        return self._targets is not None and bool(self._targets.lost[0])

    @property
    def response(self) -> NDArray[np.float32]:
        """The last frame's scores times centre-ness, without penalties and window, (19, 19) by default."""
        if self._targets is None:
            raise RuntimeError("response: call init(image, box) first")
        quality: NDArray[np.float32] = self._targets.quality[0]
        return quality


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
        return OnnxEngine(model, path, graph)
    return TorchEngine(model, device, choose_precision(precision, device, int8=False))
