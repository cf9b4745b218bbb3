"""Recognise state dicts of siamfc-pytorch and StrangerZhang's SiamFC by their keys and convert them to our SiamFC's.

Layouts (N is the number of the convolution, of five):
- siamfast: `backbone.convN.0.*` (convolution), `backbone.convN.1.*` (BatchNorm), `scale`, `bias`, `input_mean`,
  `input_std`.
- siamfc-pytorch (huanglianghua): the same `backbone.*`, nothing else; response = 0.001 * xcorr.
- siamfc-pytorch-1, its first layout: `feature.I.*` of one nn.Sequential; otherwise like the later one.
- strangerzhang (StrangerZhang/SiamFC-PyTorch): `features.I.*` of one nn.Sequential, `corr_bias`;
  response = 0.001 * xcorr + corr_bias; BatchNorm's eps is PyTorch's 1e-5.
All take RGB 0..255 without subtracting a mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from siamfast.models.alexnet import BN_EPS
from siamfast.models.siamfc import SiamFC
from siamfast.models.torch_files import unwrapped

# Index in a layout's nn.Sequential -> (our stage, 0 for convolution or 1 for BatchNorm).
_SEQUENTIAL = {
    0: (1, 0), 1: (1, 1), 4: (2, 0), 5: (2, 1), 8: (3, 0), 9: (3, 1), 11: (4, 0), 12: (4, 1), 14: (5, 0),
}  # fmt: skip
_STRANGERZHANG_EPS = 1e-5
LAYOUTS = ("siamfast", "siamfc-pytorch", "siamfc-pytorch-1", "strangerzhang")


def detect_layout(state: Mapping[str, Any]) -> str:
    """The one of LAYOUTS that the keys belong to.

    Raises:
        ValueError: none of them; the message names the first keys.

    >>> detect_layout({"features.0.weight": 0, "corr_bias": 0})
    'strangerzhang'
    """
    if any(key.startswith("backbone.conv") for key in state):
        return "siamfast" if "input_mean" in state else "siamfc-pytorch"
    if any(key.startswith("features.") for key in state):
        return "strangerzhang"
    if any(key.startswith("feature.") for key in state):
        return "siamfc-pytorch-1"
    raise ValueError(
        f"weights: no known layout has keys such as {_some(sorted(state))}; known are {', '.join(LAYOUTS)} "
        "(weights of another architecture?)"
    )


def convert_state(state: Mapping[str, torch.Tensor], *, source: str = "the state dict") -> dict[str, torch.Tensor]:
    """Convert a state dict of any of LAYOUTS to one of our SiamFC, complete and checked.

    Prefixes of wrappers are removed from the keys (`siamfast.models.torch_files.unwrapped`). Missing entries become:
    scale 0.001, bias 0, no normalisation, BatchNorm's batch counter 0.

    Args:
        state: name -> tensor.
        source: its name in errors.

    Raises:
        ValueError: an unknown layout; missing or unexpected keys; tensors of other shapes. All are listed.
    """
    state = unwrapped(state, source=source)
    layout = detect_layout(state)
    if layout == "strangerzhang":
        converted = _from_sequential(state, "features", _STRANGERZHANG_EPS)
    else:
        converted = _from_sequential(state, "feature", BN_EPS) if layout == "siamfc-pytorch-1" else state
    with torch.random.fork_rng(devices=[]):  # a new model draws weights: keep the user's random state
        expected = SiamFC().state_dict()
    # Entries that only our layout has, or that old PyTorch versions did not write, come from a new model.
    optional = {key for key in expected if key.endswith("num_batches_tracked")}
    if layout != "siamfast":
        optional |= {"scale", "bias", "input_mean", "input_std"}
    missing = sorted(expected.keys() - converted.keys() - optional)
    unexpected = sorted(converted.keys() - expected.keys())
    if missing or unexpected:
        raise ValueError(
            f"weights: {source} ({layout} layout) does not fit SiamFC-AlexNet: "
            f"missing {_some(missing)}; unexpected {_some(unexpected)}"
        )
    for key, value in converted.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"weights: {source}: {key} is a {type(value).__name__}, expected a tensor")
        if value.shape != expected[key].shape and not (value.numel() == expected[key].numel() == 1):
            raise ValueError(
                f"weights: {source} is of another architecture than SiamFC-AlexNet: {key} has shape "
                f"{tuple(value.shape)}, expected {tuple(expected[key].shape)}"
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"weights: {source}: {key} has values that are not finite")
    return {key: converted[key].reshape(value.shape) if key in converted else value for key, value in expected.items()}


def _from_sequential(state: Mapping[str, torch.Tensor], attribute: str, eps: float) -> dict[str, torch.Tensor]:
    """Convert a layout with one nn.Sequential, named `attribute`, whose BatchNorms have `eps`."""
    converted = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        index, _, name = rest.partition(".")
        place = _SEQUENTIAL.get(int(index)) if head == attribute and index.isdecimal() else None
        if key == "corr_bias":
            converted["bias"] = value
        elif place is None:
            converted[key] = value  # listed as unexpected under its own name
        else:
            if name == "running_var" and isinstance(value, torch.Tensor):
                value = value + (eps - BN_EPS)  # the difference in eps moves into the variance
            converted[f"backbone.conv{place[0]}.{place[1]}.{name}"] = value
    return converted


def _some(names: list[str], count: int = 60) -> str:
    """The first `count` names, and the number of the others."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return (", ".join(names[:count]) or "nothing") + more
