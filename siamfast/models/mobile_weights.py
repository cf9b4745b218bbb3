"""Weights of the mobile tracker on disk, with their architecture; and the starting points of its training."""

from __future__ import annotations

import os
from pathlib import Path

from siamfast.models import mobilenet
from siamfast.models.mobile import MobileArchitecture, SiamMobile
from siamfast.models.weights import default_weights, load_built, read_safetensors

DEFAULT_NAME = "mobile.safetensors"


def load_mobile(weights: str | os.PathLike[str] | None = None) -> SiamMobile:
    """A SiamMobile in eval mode, with the architecture of its weights.

    Args:
        weights: safetensors of `siamfast train --task mobile`; None: the packaged ones.

    Raises:
        FileNotFoundError: no such file.
        ValueError: other weights.
    """
    path = default_weights(DEFAULT_NAME) if weights is None else Path(weights)
    return load_built(path, SiamMobile, MobileArchitecture)


def start_from(model: SiamMobile, weights: str) -> None:
    """Initialise `model` from another network.

    Args:
        model: changed in place.
        weights: "mobile", the packaged ones; a file of a mobile tracker, from which all fitting tensors are taken; or a
            file of a backbone alone (`siamfast convert-backbone`).

    Raises:
        FileNotFoundError: no such file. ValueError: weights of another network.
    """
    path = default_weights(DEFAULT_NAME) if weights == "mobile" else Path(weights)
    state, metadata = read_safetensors(path)
    if metadata.get("architecture") == mobilenet.ARCHITECTURE:
        state = {f"backbone.{name}": tensor for name, tensor in state.items()}
    elif metadata.get("architecture") != SiamMobile.ARCHITECTURE:
        raise ValueError(
            f"init: {path} holds the architecture {metadata.get('architecture')!r}, expected "
            f"{SiamMobile.ARCHITECTURE!r} or {mobilenet.ARCHITECTURE!r}"
        )
    initial = model.state_dict()
    fitting = {
        name: tensor for name, tensor in state.items() if name in initial and initial[name].shape == tensor.shape
    }
    missing = [name for name in initial if name.startswith("backbone.") and name not in fitting]
    if missing:
        raise ValueError(f"init: {path} lacks {', '.join(missing[:5])}")
    model.load_state_dict(initial | fitting)
