"""The tracker for a name or for a file of weights. A new tracker is registered here and nowhere else."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch

from siamfast.tracking.sequence_tracker import SequenceTracker


class Kind(NamedTuple):
    """A tracker's class and module, the architecture in the metadata of its weights, and its packaged weights."""

    module: str
    name: str
    architecture: str
    weights: str


TRACKERS = {
    "mobile": Kind("siamfast.tracking.mobile", "MobileTracker", "siam-mobile", "mobile.safetensors"),
    "siamfc": Kind("siamfast.tracking.siamfc", "SiamFCTracker", "siamfc-alexnet", "siamfc_alexnet.safetensors"),
    "guided": Kind("siamfast.tracking.guided", "GuidedTracker", "siam-guided", "guided_alexnet.safetensors"),
}
DEFAULT = "mobile"
GRAPH_SUFFIXES = (".template.onnx", ".onnx", ".int8.onnx")  # graphs of a mobile tracker, beside its weights
_FOREIGN = "siamfc"  # other projects' PyTorch files are checkpoints of this tracker


def Tracker(
    weights: str | os.PathLike[str] | None = None,
    *,
    model: str | None = None,
    device: str | torch.device = "auto",
    **options: Any,
) -> SequenceTracker:
    """A tracker of one target, chosen by its name or by its weights; mobile by default.

    Args:
        weights: a siamfast safetensors file, or a checkpoint of siamfc-pytorch or StrangerZhang's SiamFC; None: the
            packaged ones.
        model: mobile, siamfc or guided; None: that of the weights, mobile without weights.
        device: "auto" (CUDA where there is one), "cpu", "cuda", ...
        options: those of siamfast.MobileTracker, SiamFCTracker or GuidedTracker.

    Raises:
        ValueError: another name; an option out of range; weights of another architecture. TypeError: an option that the
            tracker does not have. OSError: weights that cannot be read.

    >>> import numpy as np
    >>> frames = np.random.default_rng(0).integers(0, 256, (2, 120, 160, 3), dtype=np.uint8)
    >>> tracker = Tracker()
    >>> tracker.name
    'siamfast-SiamMobile'
    >>> box, confidence = tracker.init(frames[0], (60, 40, 30, 20)).update(frames[1])
    """
    if model is not None and model not in TRACKERS:
        raise ValueError(f"model: got {model!r}, expected one of {', '.join(TRACKERS)}")
    kind = TRACKERS[model or _named_by(weights)]
    tracker_class = getattr(importlib.import_module(kind.module), kind.name)
    tracker: SequenceTracker = tracker_class(weights, device=device, **options)
    return tracker


def weight_files(weights: str | os.PathLike[str] | None, model: str | None, **options: Any) -> tuple[Path, ...]:
    """The files that `Tracker` may read for these arguments: the weights, the graphs beside them, and the encoder of a
    guided tracker.

    >>> [path.name for path in weight_files(None, "guided")]
    ['guided_alexnet.safetensors', 'correspondence_resnet18.safetensors']
    """
    from siamfast.models import correspondence_weights
    from siamfast.models.weights import default_weights

    name = model or _named_by(weights)
    path = default_weights(TRACKERS[name].weights) if weights is None else Path(weights)
    graphs = (graph for suffix in GRAPH_SUFFIXES if (graph := path.with_suffix(suffix)).is_file())
    if name == "guided":
        encoder = options.get("encoder")
        return path, default_weights(correspondence_weights.DEFAULT_NAME) if encoder is None else Path(encoder)
    return path, *graphs


def _named_by(weights: str | os.PathLike[str] | None) -> str:
    from siamfast.models.weights import read_metadata

    if weights is None:
        return DEFAULT
    if Path(weights).suffix != ".safetensors":
        return _FOREIGN
    architecture = read_metadata(weights).get("architecture")
    return next((name for name, kind in TRACKERS.items() if kind.architecture == architecture), _FOREIGN)
