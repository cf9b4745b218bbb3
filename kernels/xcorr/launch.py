"""Launcher of the full correlation's forward Triton kernel: its grid and blocks."""

from __future__ import annotations

import torch
from siamfast.kernels.integers import cdiv, next_power_of_2
from siamfast.kernels.xcorr.forward import diagonal_sums_kernel

# Template cells that a program reads at once, and its pixels: many where the cells are few; fewer than 32 where the
# programs would not fill a large chip, but 8 at least, which are the 32 bytes of one access to memory.
MOST_CELLS, MOST_LOADS, LEAST_PIXELS, PROGRAMS = 64, 512, 8, 128


def diagonal_blocks(taps: int, pixels: int, maps: int) -> dict[str, int]:
    """CELLS, BLOCK_Q and the warps; taps: cells of a template, pixels: of a response, maps: of all responses."""
    cells = min(MOST_CELLS, next_power_of_2(taps))
    block = min(max(32, MOST_LOADS // cells), next_power_of_2(pixels))
    while block > LEAST_PIXELS and maps * cdiv(pixels, block) < PROGRAMS:
        block //= 2
    return {"CELLS": cells, "BLOCK_Q": block, "num_warps": min(4, max(1, cells * block // 128))}


def diagonal_sums(
    *,
    products: torch.Tensor,  # G: (n, maps * Hz*Wz, H*W) float32 contiguous, of searches without padding
    out: torch.Tensor,  # (n, maps, Ho, Wo) contiguous, not empty: filled
    template: tuple[int, int],  # (Hz, Wz)
    search: tuple[int, int],  # (H, W)
    scale: torch.Tensor | None,  # (1 or O,) float32 contiguous
    bias: torch.Tensor | None,
    scale_constant: float,
    bias_constant: float,
    pad_y: int,
    pad_x: int,
    per_template: int,  # O
) -> None:
    (n, maps, ho, wo), (hz, wz) = out.shape, template
    blocks = diagonal_blocks(hz * wz, ho * wo, n * maps)
    numbers = (products if scale is None else scale, products if bias is None else bias)
    counts = {"SCALES": 0 if scale is None else scale.numel(), "BIASES": 0 if bias is None else bias.numel()}
    with torch.cuda.device_of(out):
        diagonal_sums_kernel[(n * maps * cdiv(ho * wo, blocks["BLOCK_Q"]),)](
            products, *numbers, out, scale_constant, bias_constant, *search, ho, wo, per_template, HZ=hz, WZ=wz,
            PH=pad_y, PW=pad_x, **counts, **blocks,
        )  # fmt: skip
