"""The raw op under augment: registration and choice of the backend. Arguments are checked by then."""

from __future__ import annotations

from typing import Any

import torch

from siamfast.ops import dispatch, library
from siamfast.ops.augment import cpp, reference, triton


def augment(
    images: torch.Tensor,  # (N, 3, H, W) uint8
    draws: torch.Tensor,  # (N, 14) float32
    height: int,
    width: int,
    mean: list[float],
    std: list[float],
    dtype: torch.dtype,
) -> torch.Tensor:  # (N, 3, height, width) dtype, channels_last
    """The op; no input has a gradient."""
    found: torch.Tensor = _augment(images, draws, height, width, mean, std, dtype)
    return found


def _kernel(images: torch.Tensor, draws: torch.Tensor, *options: Any) -> torch.Tensor:
    chosen = dispatch.pick(images.device, options[-1])
    if chosen == "cpp":
        return cpp.forward(images, draws, *options)
    if chosen == "triton":
        return triton.forward(images, draws, *options)
    # One matrix an axis is the best plain formula too: "torch" and "reference" are the same here.
    return reference.augment(images, draws, *options)


def _fake(images: Any, draws: Any, height: Any, width: Any, mean: Any, std: Any, dtype: torch.dtype) -> Any:
    return images.new_empty((images.shape[0], 3, height, width), dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )


_augment = library.register(
    "augment(Tensor images, Tensor draws, SymInt height, SymInt width, float[] mean, float[] std, ScalarType dtype) "
    "-> Tensor",
    _kernel,
    _fake,
)
