"""Weights of SiamFC on disk: the packaged ones, ours, and those of other projects."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from siamfast.models.checkpoints import convert_state
from siamfast.models.siamfc import SiamFC
from siamfast.models.torch_files import is_torch_file, read_torch_file
from siamfast.models.weights import default_weights, read_safetensors

DEFAULT_NAME = "siamfc_alexnet.safetensors"


def load_weights(model: SiamFC, path: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Load weights into `model`, in place; returns the file's metadata about their origin.

    Args:
        model: receives them on its own device and in its own dtype.
        path: siamfast safetensors, a siamfast training checkpoint, or a checkpoint of siamfc-pytorch or StrangerZhang
            (recognised by its keys, see siamfast.models.checkpoints); None for the packaged default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a weights file, or weights of another architecture: missing and unexpected tensors and those of
            another shape are listed.
    """
    path = default_weights(DEFAULT_NAME) if path is None else Path(path)
    if is_torch_file(path):
        state, metadata = (
            read_torch_file(path),
            {"architecture": SiamFC.ARCHITECTURE, "recipe": f"converted from {path.name}"},
        )
    else:
        state, metadata = read_safetensors(path)
        architecture = metadata.get("architecture", SiamFC.ARCHITECTURE)
        if architecture != SiamFC.ARCHITECTURE:
            raise ValueError(
                f"weights: {path} holds the architecture {architecture!r}, expected {SiamFC.ARCHITECTURE!r}"
            )
    model.load_state_dict(convert_state(state, source=str(path)))
    return metadata


def load_model(weights: str | os.PathLike[str] | SiamFC | None = None) -> SiamFC:
    """A SiamFC in eval mode with `weights`: anything `load_weights` takes, or a SiamFC, which is used as it is."""
    if isinstance(weights, SiamFC):
        return weights.eval()
    if weights is not None and not isinstance(weights, (str, os.PathLike)):
        raise TypeError(f"weights: got {type(weights).__name__}, expected a path, a SiamFC or None")
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten: keep the user's random state
        model = SiamFC()
    load_weights(model, weights)
    return model.eval()
