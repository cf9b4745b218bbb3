"""The `triton` backend of augment: arguments of the raw op handed to the launcher in siamfast.kernels."""

from __future__ import annotations

import torch


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
