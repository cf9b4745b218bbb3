"""Triton kernels that lay features out for correspondence_warp: one row per cell, normalized, in the products' type.

The channels of a row are side by side, padded with zeros, so that tiles of products are loaded 16 bytes at a time. The
second kernel takes slopes of the rows back to slopes of the features.
Bytes: features read twice (the second time from L2), rows written once.
"""

from __future__ import annotations

import triton
import triton.language as tl
from siamfast.kernels.correspondence_warp.windows import tile_and_sample


@triton.jit
def unit_rows_kernel(
    features_ptr,  # (N, T, C, H, W), any strides
    rows_ptr,  # (N, T, H*W, CP) contiguous
    inverse_ptr,  # (N, T, H*W) float32: 1 / norm
    factor,
    T,
    C,
    W,
    cells,
    f_n,
    f_t,
    f_c,
    f_y,
    f_x,
    CP: tl.constexpr,
    NORMALIZE: tl.constexpr,
    LEAST: tl.constexpr,
    BLOCK_CELLS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """rows = factor * features / max(|features|, LEAST). One program owns BLOCK_CELLS cells of a frame."""
    tile, frame = tile_and_sample((cells + BLOCK_CELLS - 1) // BLOCK_CELLS)
    cell = tile * BLOCK_CELLS + tl.arange(0, BLOCK_CELLS)
    inside = cell < cells
    at = (frame // T) * f_n + (frame % T) * f_t + (cell // W).to(tl.int64) * f_y + (cell % W).to(tl.int64) * f_x
    inverse = tl.full((BLOCK_CELLS,), 1.0, tl.float32)
    if NORMALIZE:
        total = tl.zeros((BLOCK_CELLS,), tl.float32)
        for start in range(0, CP, BLOCK_CHANNELS):
            c = start + tl.arange(0, BLOCK_CHANNELS)
            mask = (c < C)[:, None] & inside[None, :]
            x = tl.load(features_ptr + at[None, :] + c.to(tl.int64)[:, None] * f_c, mask=mask, other=0.0)
            x = x.to(tl.float32)
            total += tl.sum(x * x, 0)
        inverse = 1.0 / tl.maximum(tl.sqrt(total), LEAST)
        inverse = tl.where(total != total, total, inverse)  # maximum drops a NaN
        tl.store(inverse_ptr + frame * cells + cell, inverse, mask=inside)
    for start in range(0, CP, BLOCK_CHANNELS):
        c = start + tl.arange(0, BLOCK_CHANNELS)
        mask = (c < C)[:, None] & inside[None, :]
        x = tl.load(features_ptr + at[None, :] + c.to(tl.int64)[:, None] * f_c, mask=mask, other=0.0)
        row = tl.trans(x.to(tl.float32) * (inverse * factor)[None, :])
        to = (frame * cells + cell)[:, None] * CP + c[None, :]
        tl.store(rows_ptr + to, row.to(rows_ptr.dtype.element_ty), mask=inside[:, None] & (c < CP)[None, :])


@triton.jit
def through_unit_rows_kernel(
    slopes_ptr,  # (N, T, H*W, CP) float32 contiguous: of the rows
    features_ptr,  # (N, T, C, H, W), any strides
    inverse_ptr,  # (N, T, H*W) float32
    out_ptr,  # (N, T, C, H*W) contiguous
    factor,
    T,
    C,
    W,
    cells,
    f_n,
    f_t,
    f_c,
    f_y,
    f_x,
    CP: tl.constexpr,
    NORMALIZE: tl.constexpr,
    LEAST: tl.constexpr,
    BLOCK_CELLS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Slopes of the rows to slopes of the features: factor / |x| * (g - u <u, g>), u = x / |x|; without the second term
    where the norm was raised to LEAST, for there it does not depend on x."""
    tile, frame = tile_and_sample((cells + BLOCK_CELLS - 1) // BLOCK_CELLS)
    cell = tile * BLOCK_CELLS + tl.arange(0, BLOCK_CELLS)
    inside = cell < cells
    at = (frame // T) * f_n + (frame % T) * f_t + (cell // W).to(tl.int64) * f_y + (cell % W).to(tl.int64) * f_x
    inverse = tl.full((BLOCK_CELLS,), 1.0, tl.float32)
    dot = tl.zeros((BLOCK_CELLS,), tl.float32)
    if NORMALIZE:
        inverse = tl.load(inverse_ptr + frame * cells + cell, mask=inside, other=1.0)
        for start in range(0, C, BLOCK_CHANNELS):
            c = start + tl.arange(0, BLOCK_CHANNELS)
            mask = (c < C)[:, None] & inside[None, :]
            x = tl.load(features_ptr + at[None, :] + c.to(tl.int64)[:, None] * f_c, mask=mask, other=0.0)
            g = tl.load(slopes_ptr + (frame * cells + cell)[None, :] * CP + c[:, None], mask=mask, other=0.0)
            dot += tl.sum(g * x.to(tl.float32), 0)
        dot = tl.where(inverse >= 1.0 / LEAST, 0.0, dot * inverse * inverse)
    for start in range(0, C, BLOCK_CHANNELS):
        c = start + tl.arange(0, BLOCK_CHANNELS)
        mask = (c < C)[:, None] & inside[None, :]
        g = tl.load(slopes_ptr + (frame * cells + cell)[None, :] * CP + c[:, None], mask=mask, other=0.0)
        if NORMALIZE:
            x = tl.load(features_ptr + at[None, :] + c.to(tl.int64)[:, None] * f_c, mask=mask, other=0.0)
            g = (g - x.to(tl.float32) * dot[None, :]) * inverse[None, :]
        to = (frame * C + c[:, None]) * cells + cell[None, :]
        tl.store(out_ptr + to, (g * factor).to(out_ptr.dtype.element_ty), mask=mask)
