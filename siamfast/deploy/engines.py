"""Time every engine and precision of the trackers on one synthetic clip, after comparing their boxes with float32."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.data.synthetic import SyntheticVideo
from siamfast.deploy.folder import MODELS, PRECISIONS, export_folder
from siamfast.evaluation.metrics import overlap
from siamfast.instructions import fast_bfloat16, int8_missing
from siamfast.tracking.mobile import MobileTracker
from siamfast.tracking.siamfc import SiamFCTracker

HEADER = f"{'model':<8}{'engine':<24}{'precision':<11}{'ms':>8}{'FPS':>7}{'overlap':>9}"
_SEED, _FRAMES = 3, 31
_CALIBRATION_SEEDS, _CALIBRATION_FRAMES = range(5000, 5006), 9
_LEAST_OVERLAP = 0.7  # mean, of boxes with those of float32 PyTorch; less is another result


class EngineRow(NamedTuple):
    """milliseconds: median per frame, crops and all. overlap: the mean intersection over union of its boxes with
    those of PyTorch in float32."""

    model: str
    engine: str
    precision: str
    milliseconds: float
    overlap: float

    def line(self) -> str:
        """The row under HEADER."""
        rate = 1e3 / self.milliseconds
        text = f"{self.model:<8}{self.engine:<24}{self.precision:<11}{self.milliseconds:>8.2f}{rate:>7.1f}"
        return f"{text}{self.overlap:>9.3f}"


def engine_rows() -> Iterable[EngineRow]:
    """The rows of both trackers, those of one tracker timed in turn, frame by frame.

    Raises:
        ValueError: boxes of an engine are others than those of PyTorch in float32.
    """
    frames = list(SyntheticVideo(_SEED, length=_FRAMES))
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            clips = [SyntheticVideo(seed, length=_CALIBRATION_FRAMES) for seed in _CALIBRATION_SEEDS]
            export_folder(Path(folder) / model, model, precisions=PRECISIONS, clips=clips)
            yield from _timed(model, _contenders(model, Path(folder) / model), frames)


def _contenders(model: str, folder: Path) -> dict[tuple[str, str], Any]:
    """Trackers by engine and precision; the first is the one to compare with."""
    cpu = torch.device("cpu")
    precisions = ["float32", *(["bfloat16"] if fast_bfloat16(cpu) else [])]
    trackers: dict[tuple[str, str], Any] = {}
    for precision in precisions:
        trackers["torch", precision] = (
            MobileTracker(device=cpu, engine="torch", precision=precision)
            if model == "mobile"
            else SiamFCTracker(device=cpu, precision=precision)
        )
    if model == "mobile":
        for precision in ("float32", "int8"):
            trackers["siamfast, onnxruntime", precision] = MobileTracker(
                device=cpu, engine="onnxruntime", precision=precision
            )
    elif int8_missing() is None:
        trackers["torch", "int8"] = SiamFCTracker(device=cpu, precision="int8")
    example = MODELS[model].example
    for precision in PRECISIONS:
        trackers["example, onnxruntime", precision] = example.Tracker(folder, precision)
    return trackers


def _timed(
    model: str, trackers: dict[tuple[str, str], Any], frames: list[tuple[NDArray[np.uint8], NDArray[np.float64]]]
) -> list[EngineRow]:
    boxes: dict[tuple[str, str], list[Any]] = {key: [] for key in trackers}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in trackers}
    for number, (frame, box) in enumerate(frames):
        for key, tracker in trackers.items():
            if number == 0:
                tracker.init(frame, box)
                continue
            start = time.perf_counter()
            tracked = tracker.update(frame)
            seconds[key].append(time.perf_counter() - start)
            boxes[key].append(tracked[0])
    exact = np.array(next(iter(boxes.values())))
    rows = []
    for (engine, precision), values in boxes.items():
        shared = float(overlap(np.array(values), exact).mean())
        if not shared >= _LEAST_OVERLAP:
            raise ValueError(
                f"engines: {model} in {engine}, {precision}: boxes overlap float32's by {shared:.2f}, "
                f"expected {_LEAST_OVERLAP} or more"
            )
        rows.append(EngineRow(model, engine, precision, 1e3 * statistics.median(seconds[engine, precision]), shared))
    return rows
