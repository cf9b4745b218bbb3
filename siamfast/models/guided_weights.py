"""Weights of the guided tracker on disk, with the architecture that they are of; and where its training may start."""

from __future__ import annotations

import os
from pathlib import Path

from siamfast.models.backbones import AlexNetBackbone
from siamfast.models.guided import GuidedArchitecture, GuidedSiam
from siamfast.models.siamfc_weights import load_model
from siamfast.models.weights import default_weights, load_built

DEFAULT_NAME = "guided_alexnet.safetensors"


def load_guided(weights: str | os.PathLike[str] | None = None) -> GuidedSiam:
    """A GuidedSiam in eval mode, built as its weights say.

    Args:
        weights: safetensors of `siamfast train --task guided`; None: the packaged ones.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such weights.
    """
    path = default_weights(DEFAULT_NAME) if weights is None else Path(weights)
    return load_built(path, GuidedSiam, GuidedArchitecture)


def start_from(model: GuidedSiam, weights: str) -> None:
    """Give `model` what another network has learned.

    Args:
        model: changed in place.
        weights: "siamfc", the packaged SiamFC's backbone; a file of SiamFC, for the AlexNet; or of a guided tracker of
            the same backbone and width, all but its fusion where the guidance differs.

    Raises:
        FileNotFoundError: no such file. ValueError: weights that do not fit.
    """
    try:
        source = None if weights == "siamfc" else load_guided(weights)
    except FileNotFoundError:
        raise
    except ValueError:
        source = None  # SiamFC's, then, in any of its layouts
    if source is None:
        siamfc = load_model(None if weights == "siamfc" else weights)
        if not isinstance(model.backbone, AlexNetBackbone):
            raise ValueError(f"init: {weights} has SiamFC's AlexNet, but the backbone is {model.architecture.backbone}")
        model.backbone.body.load_state_dict(siamfc.backbone.state_dict())
        model.backbone.input_mean.copy_(siamfc.input_mean)
        model.backbone.input_std.copy_(siamfc.input_std)
        return
    theirs, mine = source.state_dict(), model.state_dict()
    if source.architecture != model.architecture:
        theirs = {k: v for k, v in theirs.items() if not k.startswith("fusion.")}
    wrong = [
        k for k, v in mine.items() if not k.startswith("fusion.") and getattr(theirs.get(k), "shape", None) != v.shape
    ]
    if wrong:
        raise ValueError(f"init: {weights} is of another backbone or width: {', '.join(wrong[:5])}")
    model.load_state_dict(mine | theirs)
