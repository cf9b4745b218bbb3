"""Launcher of augment's Triton kernels: tiles, grid and configuration."""

from __future__ import annotations

import math

import torch
from siamfast.kernels.augment.forward import augment_kernel, augment_means_kernel
from siamfast.kernels.integers import cdiv

# Output cells of a tile: ROWS x COLUMNS, or ROWS x FINE where COLUMNS would need more than MOST_PIXELS pixels. A wider
# tile reads fewer pixels twice; more rows take so many registers that half as many programs run at once.
ROWS, COLUMNS, FINE, MOST_PIXELS, STRIP, NUM_WARPS = 16, 32, 16, 64, 16, 4


def pixels(draws: torch.Tensor, block: int) -> int:
    """The most pixels that `block` cells in a row need along an axis: a power of two, 16 or more."""
    step = draws[:, 2:4].abs().amax(1)
    support = torch.where(draws[:, 4] > 0, 3 * draws[:, 4], step.clamp_min(1))
    widest = float(((block - 1) * step + 2 * support).max()) + 2
    return 1 << max(4, math.ceil(math.log2(widest)))


def blocks(draws: torch.Tensor) -> dict[str, int]:
    """A tile's cells and the pixels under it, along both axes."""
    columns = COLUMNS if pixels(draws, COLUMNS) <= MOST_PIXELS else FINE
    return {
        "ROWS": ROWS,
        "COLUMNS": columns,
        "PIXELS_Y": pixels(draws, ROWS),
        "PIXELS_X": pixels(draws, columns),
    }


def forward(
    *,
    images: torch.Tensor,  # (N, 3, H, W) uint8
    draws: torch.Tensor,  # (N, 14) float32, on the CPU
    height: int,
    width: int,
    mean: list[float],
    std: list[float],
    dtype: torch.dtype,
) -> torch.Tensor:  # (N, 3, height, width)
    count = images.shape[0]
    out = torch.empty((count, 3, height, width), dtype=dtype, device=images.device, memory_format=torch.channels_last)
    if count == 0:
        return out
    sizes = blocks(draws)
    grid = (cdiv(height, sizes["ROWS"]) * cdiv(width, sizes["COLUMNS"]) * count,)
    means = torch.empty((count, 3), dtype=torch.float32, device=images.device)
    with torch.cuda.device_of(images):
        augment_means_kernel[(count * 3,)](images, means, *images.shape[2:], *images.stride(), num_warps=NUM_WARPS)
        augment_kernel[grid](
            images,
            draws.contiguous().to(images.device, non_blocking=True),
            means,
            out,
            images.shape[2],
            images.shape[3],
            height,
            width,
            *images.stride(),
            *mean,
            *(1 / v for v in std),
            **sizes,
            STRIP=STRIP,
            EXACT=dtype == torch.float32,
            num_warps=NUM_WARPS,
        )
    return out
