"""Weights of the correspondence encoder on disk: the packaged ones, ours, and torchvision's."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from siamfast.models.correspondence import CorrespondenceEncoder
from siamfast.models.torch_files import is_torch_file, read_torch_file, unwrapped
from siamfast.models.weights import default_weights, read_safetensors

DEFAULT_NAME = "correspondence_resnet18.safetensors"


def load_encoder(weights: str | os.PathLike[str] | None = None) -> CorrespondenceEncoder:
    """A CorrespondenceEncoder in eval mode, with the width and depth of the weights.

    Args:
        weights: siamfast safetensors, a siamfast training checkpoint, or a state dict of torchvision's ResNet-18
            (without its classifier); None for the packaged default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a weights file, or weights of another architecture.
    """
    path = default_weights(DEFAULT_NAME) if weights is None else Path(weights)
    state = read_torch_file(path) if is_torch_file(path) else unwrapped(read_safetensors(path)[0], source=str(path))
    state = {k: v for k, v in state.items() if not k.startswith("fc.")}
    first = state.get("conv1.weight")
    stages = max([0, *(int(k[5]) for k in state if k[:5] == "layer" and k[5].isdecimal())])
    if not isinstance(first, torch.Tensor) or first.dim() != 4 or not 2 <= stages <= 4:
        raise ValueError(f"weights: {path} holds no ResNet-18 (conv1.weight, layer1 to layer2, 3 or 4)")
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten: keep the user's random state
        model = CorrespondenceEncoder(width=first.shape[0], stages=stages)
    initial = model.state_dict()
    optional = {k for k in initial if k.startswith("input_") or k.endswith("num_batches_tracked")}
    wrong = sorted((initial.keys() ^ state.keys()) - optional)
    wrong += sorted(k for k in initial.keys() & state.keys() if initial[k].shape != state[k].shape)
    if wrong:
        raise ValueError(f"weights: {path} does not fit a ResNet-18 of width {first.shape[0]}: {', '.join(wrong[:9])}")
    model.load_state_dict(initial | state)
    return model.eval()
