"""Triton kernels of correspondence_warp's gradients over all keys; weights are recomputed from the saved log-sum-exp.

p_ij = exp(s_ij - lse_i); the slope of a weight is a_ij = <g_i, v_j> - e_i (s_ij - lse_i), with slopes g of the values
and e of the entropy; ds_ij = p_ij (a_ij + r_i) + [j is i's best] c_i, where r_i is what all keys of a query share (the
mean of the a_ij, the slope of lse). Then dq_i = sum_j ds_ij k_j, dk_j = sum_i ds_ij q_i, dbias_j = sum_i ds_ij,
dv_j = sum_i p_ij g_i. No sum crosses programs: two runs give the same bits.
"""

from __future__ import annotations

import triton
import triton.language as tl
from siamfast.kernels.correspondence_warp.forward import logits, row_length, tile_logits
from siamfast.kernels.correspondence_warp.windows import (
    jit_for_any_size,
    near,
    tile_and_sample,
    tile_bounds,
    tile_cells,
    tile_count,
)
from siamfast.kernels.tf32 import product


@triton.jit
def add_value_products(
    total, g_rows, v_columns, g_used, v_used, g_step, v_step, K, KP: tl.constexpr, SMALL: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """total (G, V) + <g_i, v_j> over K channels; g_rows (G,), v_columns (V,): pointers to channel 0; g_step, v_step:
    from a channel to the next."""
    if SMALL:
        for k in range(K):
            g = tl.load(g_rows + k * g_step, mask=g_used, other=0.0)
            v = tl.load(v_columns + k * v_step, mask=v_used, other=0.0)
            total += g[:, None] * v[None, :]
    else:
        for first in range(0, K, KP):
            k = (first + tl.arange(0, KP)).to(tl.int64)
            mask = k < K
            g = tl.load(g_rows[:, None] + k[None, :] * g_step, mask=g_used[:, None] & mask[None, :], other=0.0)
            v = tl.load(v_columns[None, :] + k[:, None] * v_step, mask=v_used[None, :] & mask[:, None], other=0.0)
            total = product(g, v, total, "tf32x3", UPCAST)
    return total


@jit_for_any_size
def warp_query_slopes_kernel(
    query_ptr,  # (N, Q, CP) rows
    keys_ptr,  # (N, J, CP) rows
    values_ptr,  # (N, K, J) float32 contiguous
    bias_ptr,  # (N, J) float32 contiguous
    exempt_ptr,  # (T,) int32
    bounds_ptr,
    ranks_ptr,
    grad_ptr,  # (N, K, Q) float32: g
    ends_ptr,  # (N, 4, Q) float32: lse, r, e, c
    index_ptr,  # (N, Q) int64: the best key
    d_query_ptr,  # (N, Q, CP) float32
    limit,
    K,
    HQ,
    WQ,
    H,
    W,
    FRAMES,
    CHANNELS,  # of a row
    WINDOW: tl.constexpr,  # a kind of windows.Windows
    BIAS: tl.constexpr,
    KP: tl.constexpr,
    SMALL: tl.constexpr,
    SIDE: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,  # channels of the slopes per program
    LENGTH: tl.constexpr,  # as in row_length
    PRECISION: tl.constexpr,
    SLOPES: tl.constexpr,  # precision of the product with slopes
    UPCAST: tl.constexpr,
):
    """One program owns BLOCK_D channels of the slopes of a tile of queries, and goes over all its keys."""
    tile, n = tile_and_sample(tile_count(HQ, WQ, WINDOW, BLOCK_Q, SIDE))
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    cells, keys, CP = HQ * WQ, FRAMES * H * W, row_length(CHANNELS, BLOCK_C, LENGTH)
    cell, y, x, inside = tile_cells(tile, HQ, WQ, WINDOW, BLOCK_Q, SIDE)
    query_rows = query_ptr + (n * cells + tl.where(inside, cell, 0)) * CP
    query = tl.load(query_rows[:, None] + tl.arange(0, BLOCK_C)[None, :])
    ends = ends_ptr + n * 4 * cells + cell
    lse = tl.load(ends, mask=inside, other=0.0)
    shared = tl.load(ends + cells, mask=inside, other=0.0)
    spread = tl.load(ends + 2 * cells, mask=inside, other=0.0)
    certain = tl.load(ends + 3 * cells, mask=inside, other=0.0)
    best = tl.load(index_ptr + n * cells + cell, mask=inside, other=-1).to(tl.int32)  # keys are fewer than 2**31
    d_query = tl.zeros((BLOCK_Q, BLOCK_D), tl.float32)
    rounds = FRAMES if WINDOW != "none" else 1
    for frame in range(rounds):
        exempt = tl.load(exempt_ptr + frame) != 0
        tall = H if WINDOW != "none" else FRAMES * H
        top, left, rows, columns = tile_bounds(bounds_ptr, tile, exempt, HQ, WQ, tall, W, WINDOW, SIDE)
        for start in range(0, rows * columns, BLOCK_J):
            key, used, allowed, key_rows, s = tile_logits(
                query_rows, query, keys_ptr, bias_ptr, bounds_ptr, ranks_ptr, limit, n * keys, frame, exempt, start,
                top, left, rows, columns, y, x, inside, HQ, WQ, H, W, CHANNELS, WINDOW, BIAS, SIDE, BLOCK_Q, BLOCK_J,
                BLOCK_C, LENGTH, PRECISION, UPCAST,
            )  # fmt: skip
            s -= lse[:, None]
            slope_of_weight = shared[:, None] - spread[:, None] * tl.where(s == float("-inf"), 0.0, s)
            slope_of_weight = add_value_products(
                slope_of_weight, grad_ptr + n * K * cells + cell, values_ptr + n * K * keys + key, inside, used, cells,
                keys, K, KP, SMALL, UPCAST,
            )  # fmt: skip
            slope = tl.exp(s) * slope_of_weight
            slope += tl.where((best[:, None] == key[None, :]) & used[None, :], certain[:, None], 0.0)
            slope = tl.where(allowed, slope, 0.0)
            k = tl.load(key_rows[:, None] + d[None, :], mask=used[:, None] & (d < CP)[None, :], other=0.0)
            d_query = product(slope, k.to(tl.float32), d_query, SLOPES, UPCAST)
    at = d_query_ptr + (n * cells + cell)[:, None] * CP + d[None, :]
    tl.store(at, d_query, mask=inside[:, None] & (d < CP)[None, :])


@jit_for_any_size
def warp_key_slopes_kernel(
    query_ptr,  # (N, Q, CP) rows
    keys_ptr,  # (N, T*H*W, CP) rows
    values_ptr,  # (N, K, T*H*W) float32 contiguous
    bias_ptr,  # (N, T*H*W) float32 contiguous
    exempt_ptr,  # (T,) int32
    bounds_ptr,  # by key
    ranks_ptr,
    grad_ptr,  # (N, K, Q) float32: g
    ends_ptr,  # (N, 4, Q) float32: lse, r, e, c
    index_ptr,  # (N, Q) int64
    d_keys_ptr,  # (N, T*H*W, CP) float32
    d_values_ptr,  # (N, K, T*H*W) float32
    d_bias_ptr,  # (N, T*H*W) float32
    limit,
    K,
    HQ,
    WQ,
    H,
    W,
    FRAMES,
    CHANNELS,  # of a row
    WINDOW: tl.constexpr,  # a kind of windows.Windows
    BIAS: tl.constexpr,
    OF_VALUES: tl.constexpr,  # whether slopes of the values are computed, or of keys and bias
    KP: tl.constexpr,
    SMALL: tl.constexpr,
    SIDE: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_J: tl.constexpr,  # keys per program
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,  # channels per program: of features, or of values
    LENGTH: tl.constexpr,  # as in row_length
    PRECISION: tl.constexpr,
    SLOPES: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """One program owns BLOCK_D channels of the slopes of a tile of keys, and goes over all queries that see it."""
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    cells, keys, CP = HQ * WQ, FRAMES * H * W, row_length(CHANNELS, BLOCK_C, LENGTH)
    if WINDOW != "none":
        tiles = tile_count(H, W, WINDOW, BLOCK_J, SIDE)
        tile_of_all, n = tile_and_sample(FRAMES * tiles)
        tile, frame, tall = tile_of_all % tiles, tile_of_all // tiles, H
    else:
        tile, n = tile_and_sample(tile_count(FRAMES * H, W, WINDOW, BLOCK_J, SIDE))
        frame, tall = 0, FRAMES * H
    exempt = tl.load(exempt_ptr + frame) != 0
    place, y, x, inside = tile_cells(tile, tall, W, WINDOW, BLOCK_J, SIDE)
    key = tl.where(inside, frame * H * W + place, 0)
    key_rows = keys_ptr + (n * keys + key) * CP
    row = tl.load(key_rows[:, None] + tl.arange(0, BLOCK_C)[None, :])
    bias = tl.zeros((BLOCK_J,), tl.float32)
    if BIAS:
        bias = tl.load(bias_ptr + n * keys + key, mask=inside, other=0.0)
    total = tl.zeros((BLOCK_J, BLOCK_D), tl.float32)
    d_bias = tl.zeros((BLOCK_J,), tl.float32)
    zero = tl.zeros((BLOCK_Q,), tl.float32)
    top, left, rows, columns = tile_bounds(bounds_ptr, tile, exempt, tall, W, HQ, WQ, WINDOW, SIDE)
    for start in range(0, rows * columns, BLOCK_Q):
        e = start + tl.arange(0, BLOCK_Q)
        used = e < rows * columns
        query_y, query_x = tl.where(used, top + e // columns, 0), tl.where(used, left + e % columns, 0)
        cell = query_y * WQ + query_x
        allowed = used[None, :] & near(
            bounds_ptr, ranks_ptr, limit, exempt, y, x, inside, query_y, query_x, tall, W, HQ, WQ, WINDOW, SIDE, True,
        )  # fmt: skip
        query_rows = query_ptr + (n * cells + cell) * CP
        s = logits(
            key_rows,
            query_rows,
            row,
            zero,
            used,
            allowed,
            CHANNELS,
            BLOCK_C,
            BLOCK_J,
            BLOCK_Q,
            LENGTH,
            PRECISION,
            UPCAST,
        )
        ends = ends_ptr + n * 4 * cells + cell
        s = s + bias[:, None] - tl.load(ends, mask=used, other=0.0)[None, :]
        weights = tl.where(allowed, tl.exp(s), 0.0)
        grads = grad_ptr + n * K * cells + cell
        if OF_VALUES:
            g = tl.load(
                grads[:, None] + d[None, :].to(tl.int64) * cells, mask=used[:, None] & (d < K)[None, :], other=0.0
            )
            total = product(weights, g, total, "tf32x3", UPCAST)
        else:
            shared = tl.load(ends + cells, mask=used, other=0.0)
            spread = tl.load(ends + 2 * cells, mask=used, other=0.0)
            slope_of_weight = shared[None, :] - spread[None, :] * tl.where(s == float("-inf"), 0.0, s)
            slope_of_weight = add_value_products(
                slope_of_weight, values_ptr + n * K * keys + key, grads, inside, used, keys, cells, K, KP, SMALL,
                UPCAST,
            )  # fmt: skip
            best = tl.load(index_ptr + n * cells + cell, mask=used, other=-1)
            certain = tl.load(ends + 3 * cells, mask=used, other=0.0)
            slope = weights * slope_of_weight
            slope += tl.where((best[None, :] == key[:, None]) & inside[:, None], certain[None, :], 0.0)
            slope = tl.where(allowed, slope, 0.0)
            d_bias += tl.sum(slope, 1)
            q = tl.load(query_rows[:, None] + d[None, :], mask=used[:, None] & (d < CP)[None, :], other=0.0)
            total = product(slope, q.to(tl.float32), total, SLOPES, UPCAST)
    if OF_VALUES:
        at = d_values_ptr + (n * K + d[None, :]) * keys + key[:, None]
        tl.store(at, total, mask=inside[:, None] & (d < K)[None, :])
    else:
        at = d_keys_ptr + (n * keys + key)[:, None] * CP + d[None, :]
        tl.store(at, total, mask=inside[:, None] & (d < CP)[None, :])
        # Of the programs that share a tile the first one stores; key * 0: of the shape of `inside`.
        tl.store(d_bias_ptr + n * keys + key, d_bias, mask=inside & (key * 0 + tl.program_id(1) == 0))
