"""Triton kernels that lay features out for correspondence_warp: one row per cell, normalized, in the products' type.

The channels of a row are side by side, padded with zeros, so that tiles of products are loaded 16 bytes at a time. The
second kernel takes slopes of the rows back to slopes of the features.
The first block of channels is read once and kept in registers, its loads in flight together; a row with more blocks has
the others read again, from L2.
"""

from __future__ import annotations

import triton
import triton.language as tl
from siamfast.kernels.correspondence_warp.windows import tile_and_sample


@triton.jit
def channels_of(features_ptr, at, inside, f_c, C, start, BLOCK_CHANNELS: tl.constexpr):
    """(BLOCK_CHANNELS, cells) float32: channels from `start` on of the cells at `at`."""
    c = start + tl.arange(0, BLOCK_CHANNELS)
    mask = (c < C)[:, None] & inside[None, :]
    return tl.load(features_ptr + at[None, :] + c.to(tl.int64)[:, None] * f_c, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store_rows(rows_ptr, row, inside, x, start, CP: tl.constexpr, BLOCK_CHANNELS: tl.constexpr):
    c = start + tl.arange(0, BLOCK_CHANNELS)
    to = row[:, None] * CP + c[None, :]
    tl.store(rows_ptr + to, tl.trans(x).to(rows_ptr.dtype.element_ty), mask=inside[:, None] & (c < CP)[None, :])


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
    row = frame * cells + cell
    scale = tl.full((BLOCK_CELLS,), 1.0, tl.float32) * factor
    x = channels_of(features_ptr, at, inside, f_c, C, 0, BLOCK_CHANNELS)
    if NORMALIZE:
        total = tl.sum(x * x, 0)
        for start in range(BLOCK_CHANNELS, CP, BLOCK_CHANNELS):
            more = channels_of(features_ptr, at, inside, f_c, C, start, BLOCK_CHANNELS)
            total += tl.sum(more * more, 0)
        inverse = 1.0 / tl.maximum(tl.sqrt(total), LEAST)
        inverse = tl.where(total != total, total, inverse)  # maximum drops a NaN
        tl.store(inverse_ptr + row, inverse, mask=inside)
        scale *= inverse
    store_rows(rows_ptr, row, inside, x * scale[None, :], 0, CP, BLOCK_CHANNELS)
    for start in range(BLOCK_CHANNELS, CP, BLOCK_CHANNELS):
        x = channels_of(features_ptr, at, inside, f_c, C, start, BLOCK_CHANNELS)
        store_rows(rows_ptr, row, inside, x * scale[None, :], start, CP, BLOCK_CHANNELS)


@triton.jit
def slopes_of(slopes_ptr, row, inside, C, start, CP: tl.constexpr, BLOCK_CHANNELS: tl.constexpr):
    """(BLOCK_CHANNELS, cells) float32: channels from `start` on of the rows' slopes."""
    c = start + tl.arange(0, BLOCK_CHANNELS)
    mask = inside[:, None] & (c < C)[None, :]
    return tl.trans(tl.load(slopes_ptr + row[:, None] * CP + c[None, :], mask=mask, other=0.0))


@triton.jit
def store_channels(out_ptr, frame, cells, cell, inside, value, C, start, BLOCK_CHANNELS: tl.constexpr):
    c = start + tl.arange(0, BLOCK_CHANNELS)
    to = (frame * C + c[:, None]) * cells + cell[None, :]
    tl.store(out_ptr + to, value.to(out_ptr.dtype.element_ty), mask=(c < C)[:, None] & inside[None, :])


@triton.jit
def through_unit_rows_kernel(
    slopes_ptr,  # (N, T, H*W, CP) float32 contiguous: of the rows, in units of their sample
    units_ptr,  # (N,) float32
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
    UNITS: tl.constexpr,  # whether there are units; else they are 1
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
    row = frame * cells + cell
    scale = tl.full((BLOCK_CELLS,), 1.0, tl.float32) * factor
    if UNITS:
        scale *= tl.load(units_ptr + frame // T)
    g = slopes_of(slopes_ptr, row, inside, C, 0, CP, BLOCK_CHANNELS)
    dot = tl.zeros((BLOCK_CELLS,), tl.float32)
    if NORMALIZE:
        inverse = tl.load(inverse_ptr + row, mask=inside, other=1.0)
        x = channels_of(features_ptr, at, inside, f_c, C, 0, BLOCK_CHANNELS)
        dot = tl.sum(g * x, 0)
        for start in range(BLOCK_CHANNELS, CP, BLOCK_CHANNELS):
            more = channels_of(features_ptr, at, inside, f_c, C, start, BLOCK_CHANNELS)
            dot += tl.sum(slopes_of(slopes_ptr, row, inside, C, start, CP, BLOCK_CHANNELS) * more, 0)
        dot = tl.where(inverse >= 1.0 / LEAST, 0.0, dot * inverse * inverse)
        scale *= inverse
        g -= x * dot[None, :]
    store_channels(out_ptr, frame, cells, cell, inside, g * scale[None, :], C, 0, BLOCK_CHANNELS)
    for start in range(BLOCK_CHANNELS, CP, BLOCK_CHANNELS):
        g = slopes_of(slopes_ptr, row, inside, C, start, CP, BLOCK_CHANNELS)
        if NORMALIZE:
            g -= channels_of(features_ptr, at, inside, f_c, C, start, BLOCK_CHANNELS) * dot[None, :]
        store_channels(out_ptr, frame, cells, cell, inside, g * scale[None, :], C, start, BLOCK_CHANNELS)
