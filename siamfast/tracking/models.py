"""Which tracker goes with a name, or with a file of weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from siamfast.tracking.sequence_tracker import SequenceTracker

MODELS = ("siamfc", "guided")


def make_tracker(
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "auto",
    **options: Any,
) -> SequenceTracker:
    """A tracker by its name, or by what its weights are of.

    Args:
        model: siamfc or guided; None: as the weights say, siamfc where they say nothing.
        weights: a file; None: the packaged ones.
        device: where to run.
        options: of siamfast.Tracker or siamfast.GuidedTracker.

    Raises:
        ValueError: another name. And what the trackers raise.

    >>> make_tracker("siamfc").name
    'SiamFC'
    """
    if model is not None and model not in MODELS:
        raise ValueError(f"model: got {model!r}, expected one of {', '.join(MODELS)}")
    if (model or _named_by(weights)) == "guided":
        from siamfast.tracking.guided_tracker import GuidedTracker

        return GuidedTracker(weights, device=device, **options)
    from siamfast.tracking.tracker import Tracker

    return Tracker(weights, device=device, **options)


def _named_by(weights: str | os.PathLike[str] | None) -> str:
    from siamfast.models.guided import ARCHITECTURE
    from siamfast.models.weights import read_metadata

    if weights is None or Path(weights).suffix != ".safetensors":
        return "siamfc"
    return "guided" if read_metadata(weights).get("architecture") == ARCHITECTURE else "siamfc"
