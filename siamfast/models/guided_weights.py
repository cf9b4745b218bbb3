"""Weights of the guided tracker on disk, with their architecture; and the starting points of its training."""

from __future__ import annotations

import os
from pathlib import Path

from siamfast.models.backbones import AlexNetBackbone
from siamfast.models.guided import GuidedArchitecture, GuidedSiam
from siamfast.models.siamfc_weights import load_model
from siamfast.models.weights import default_weights, load_built

DEFAULT_NAME = "guided_alexnet.safetensors"


def load_guided(weights: str | os.PathLike[str] | None = None) -> GuidedSiam:
    """A GuidedSiam in eval mode, with the architecture of its weights.

    Args:
        weights: safetensors of `siamfast train --task guided`; None: the packaged ones.

    Raises:
        FileNotFoundError: no such file.
        ValueError: other weights.
    """
    path = default_weights(DEFAULT_NAME) if weights is None else Path(weights)
    return load_built(path, GuidedSiam, GuidedArchitecture)


def start_from(model: GuidedSiam, weights: str) -> None:
    """Initialise `model` from another network.

    Args:
        model: changed in place.
        weights: "siamfc", the packaged SiamFC's backbone; a file of SiamFC, for the AlexNet; or a file of a guided
            tracker with the same backbone and width (without its fusion if the guidance differs).

    Raises:
        FileNotFoundError: no such file. ValueError: weights that do not fit.
    """
    try:
        source = None if weights == "siamfc" else load_guided(weights)
    except FileNotFoundError:
        raise
    except ValueError:
        source = None  # then it must be SiamFC's, in any of its layouts
    if source is None:
        siamfc = load_model(None if weights == "siamfc" else weights)
        if not isinstance(model.backbone, AlexNetBackbone):
            raise ValueError(f"init: {weights} has SiamFC's AlexNet, but the backbone is {model.architecture.backbone}")
        model.backbone.body.load_state_dict(siamfc.backbone.state_dict())
        model.backbone.input_mean.copy_(siamfc.input_mean)
        model.backbone.input_std.copy_(siamfc.input_std)
        return
    state, initial = source.state_dict(), model.state_dict()
    if source.architecture != model.architecture:
        state = {k: v for k, v in state.items() if not k.startswith("fusion.")}
    wrong = [
        k for k, v in initial.items() if not k.startswith("fusion.") and getattr(state.get(k), "shape", None) != v.shape
    ]
    if wrong:
        raise ValueError(f"init: {weights} is of another backbone or width: {', '.join(wrong[:5])}")
    model.load_state_dict(initial | state)
