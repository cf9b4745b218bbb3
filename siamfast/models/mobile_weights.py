"""Weights of the mobile tracker on disk, with the architecture that they are of; and where its training may start."""

from __future__ import annotations

import os
from pathlib import Path

from siamfast.models import mobilenet
from siamfast.models.mobile import MobileArchitecture, SiamMobile
from siamfast.models.weights import default_weights, load_built, read_safetensors

DEFAULT_NAME = "mobile.safetensors"


def load_mobile(weights: str | os.PathLike[str] | None = None) -> SiamMobile:
    """A SiamMobile in eval mode, built as its weights say.

    Args:
        weights: safetensors of `siamfast train --task mobile`; None: the packaged ones.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such weights.
    """
    path = default_weights(DEFAULT_NAME) if weights is None else Path(weights)
    return load_built(path, SiamMobile, MobileArchitecture)


def start_from(model: SiamMobile, weights: str) -> None:
    """Give `model` what another network has learned.

    Args:
        model: changed in place.
        weights: "mobile", the packaged ones; a file of a mobile tracker, of which all that fits is taken; or of a
            backbone alone (`siamfast convert-backbone`).

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
    mine = model.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in mine and mine[name].shape == tensor.shape}
    missing = [name for name in mine if name.startswith("backbone.") and name not in fitting]
    if missing:
        raise ValueError(f"init: {path} lacks {', '.join(missing[:5])}")
    model.load_state_dict(mine | fitting)
