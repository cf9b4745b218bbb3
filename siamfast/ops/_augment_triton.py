"""The `triton` backend of augment: arguments of the raw op handed to the launcher in siamfast.kernels."""

from __future__ import annotations

import torch

from siamfast.ops import _backend


def reason(device_type: str, dtype: torch.dtype) -> str | None:
    """Why the Triton kernel cannot serve, or None."""
    return _backend.triton_reason(device_type, dtype)


def forward(
    images: torch.Tensor,  # (N, 3, H, W) uint8
    draws: torch.Tensor,  # (N, 14) float32
    height: int,
    width: int,
    mean: list[float],
    std: list[float],
    dtype: torch.dtype,
) -> torch.Tensor:  # (N, 3, height, width)
    from siamfast.kernels import augment

    return augment.launch(images, draws, height, width, mean, std, dtype)
