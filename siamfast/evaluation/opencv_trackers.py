"""OpenCV's own trackers as peers, behind the got10k toolkit's interface."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from siamfast.io.decoders import quiet_opencv
from siamfast.io.images import read_image

KINDS = {"csrt": "CSRT", "kcf": "KCF", "mil": "MIL", "nanotrack": "Nano"}  # kind -> NAME in OpenCV's TrackerNAME


class NanoModels(NamedTuple):
    """The two ONNX files of NanoTrack."""

    backbone: Path
    head: Path


def find_nano_models(folder: str | os.PathLike[str]) -> NanoModels:
    """NanoTrack's two ONNX files, under their authors' names.

    Raises:
        ValueError: no such folder, or one of the files is missing.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"--nano-models: {folder} is not a folder")
    for ending in ("_sim.onnx", ".onnx"):
        models = NanoModels(*(Path(folder) / f"nanotrack_{part}{ending}" for part in ("backbone", "head")))
        if all(path.is_file() for path in models):
            return models
    raise ValueError(
        f"--nano-models: {folder} lacks nanotrack_backbone_sim.onnx and nanotrack_head_sim.onnx (or both without _sim)"
    )


def _creator(name: str) -> Any:
    """cv2.TrackerNAME_create, wherever this OpenCV has it, or None."""
    for home in (cv2, getattr(cv2, "legacy", None)):
        create = getattr(home, f"Tracker{name}_create", None)
        if create is None:
            create = getattr(getattr(home, f"Tracker{name}", None), "create", None)
        if create is not None:
            return create
    return None


class OpenCVTracker:
    """One of OpenCV's trackers; a lost target keeps its last box.

    It runs on as many threads as torch, so that its speed compares with ours. `confidences`: (T,) of the last sequence
    if the tracker has any (nanotrack), else None.

    Args:
        kind: csrt, kcf, mil or nanotrack.
        models: for nanotrack only: the folder of its two ONNX files.

    Raises:
        ValueError: an unknown kind, one that this OpenCV does not have, or models that it cannot read.
    """

    def __init__(self, kind: str, models: str | os.PathLike[str] | None = None) -> None:
        if kind not in KINDS:
            raise ValueError(f"peers: got {kind!r}, expected some of {', '.join(KINDS)}")
        self.kind, self.name = kind, f"OpenCV-{KINDS[kind]}"
        self.confidences: NDArray[np.float64] | None = None
        self._create = _creator(KINDS[kind])
        if self._create is None:
            remedy = (
                "4.7 and later have it"
                if kind == "nanotrack"
                else "install opencv-contrib-python-headless in place of opencv-python-headless"
            )
            raise ValueError(f"peers: OpenCV {cv2.__version__} here has no tracker {kind!r}: {remedy}")
        self._models: NanoModels | None = None
        if kind == "nanotrack":
            if models is None:
                raise ValueError("--nano-models: missing; nanotrack needs the folder of its two ONNX files")
            self._models = find_nano_models(models)
            try:
                self._make()
            except cv2.error as error:
                raise ValueError(f"--nano-models: OpenCV {cv2.__version__} cannot read {models}: {error}") from error

    def _make(self) -> Any:
        if self._models is None:
            return self._create()
        parameters = cv2.TrackerNano.Params()
        parameters.backbone, parameters.neckhead = map(str, self._models)
        with quiet_opencv():  # OpenCV 5 warns that its new engine has no choice of target; none is made
            return self._create(parameters)

    def track(
        self, img_files: Sequence[str | Path], box: ArrayLike, visualize: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As siamfast.Tracker.track."""
        threads = cv2.getNumThreads()
        cv2.setNumThreads(torch.get_num_threads())
        try:
            return self._track(img_files, box)
        except cv2.error as error:  # neither a ValueError nor a RuntimeError, it would end the evaluation
            raise ValueError(str(error)) from error
        finally:
            cv2.setNumThreads(threads)

    def _track(
        self, img_files: Sequence[str | Path], box: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        tracker = self._make()
        boxes, times, scores = [np.asarray(box, dtype=float)], [0.0], [1.0]
        for number, path in enumerate(img_files):
            # BGR, as OpenCV's trackers expect: NanoTrack's swaps the channels itself.
            frame = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGR)
            began = time.perf_counter()
            if number == 0:
                tracker.init(frame, tuple(round(float(v)) for v in boxes[0]))
                times[0] = time.perf_counter() - began
                continue
            success, where = tracker.update(frame)
            times.append(time.perf_counter() - began)
            boxes.append(np.asarray(where, dtype=float) if success else boxes[-1])
            if self.kind == "nanotrack":
                scores.append(tracker.getTrackingScore())
        if self.kind == "nanotrack":
            self.confidences = np.array(scores)
        return np.stack(boxes), np.asarray(times)
