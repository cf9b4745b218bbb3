"""Triton kernels of correspondence_warp, forward: products of features, followed by a running softmax.

For every query i and key j: s_ij = <q_i, k_j> + bias_j; out_i = sum_j softmax_j(s_ij) v_j. A program owns a tile of
queries and goes over its keys; it keeps only the largest logit so far, the sum of exp(s - largest) and the weighted
values. Where there are few tiles, the keys are divided among several programs (SPLIT), and a second kernel joins their
parts. Features are given as rows (features.py). Top k: top.py. Gradients: backward.py.
"""

from __future__ import annotations

import triton
import triton.language as tl
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
def row_length(CHANNELS, BLOCK_C: tl.constexpr, LENGTH: tl.constexpr):
    """Padded channels of a row. LENGTH: the same if they are a power of 2, else 0: all others are one program."""
    if LENGTH > 0:
        length: tl.constexpr = LENGTH
    else:
        length = CHANNELS // BLOCK_C * BLOCK_C  # so that it is known to be a multiple
    return length


@triton.jit
def logits(
    query_rows, key_rows, query, bias, used, allowed, CHANNELS, BLOCK_C: tl.constexpr, BLOCK_Q: tl.constexpr,
    BLOCK_J: tl.constexpr, LENGTH: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """(BLOCK_Q, BLOCK_J) logits, -inf where not allowed. query_rows (BLOCK_Q,), key_rows (BLOCK_J,): addresses of rows;
    query: (BLOCK_Q, CP), the tile's features, read only where a row is one block; used: (BLOCK_J,).

    The compiler is not told the number of blocks, or it unrolls the loop over them, whose addresses fill registers.
    """
    c = tl.arange(0, BLOCK_C)
    s = tl.zeros((BLOCK_Q, BLOCK_J), tl.float32)
    if LENGTH == BLOCK_C:
        k = tl.load(key_rows[None, :] + c[:, None], mask=used[None, :], other=0.0)
        s = product(query, k, s, PRECISION, UPCAST)
    else:
        for start in range(0, CHANNELS, BLOCK_C):
            q = tl.load(query_rows[:, None] + (start + c)[None, :])
            k = tl.load(key_rows[None, :] + (start + c)[:, None], mask=used[None, :], other=0.0)
            s = product(q, k, s, PRECISION, UPCAST)
    s += bias[None, :]
    return tl.where(allowed, s, float("-inf"))


@triton.jit
def tile_logits(
    query_rows, query, keys_ptr, bias_ptr, bounds_ptr, ranks_ptr, limit, first_row, frame, exempt, start, top, left,
    rows, columns, y, x, inside, HQ, WQ, H, W, CHANNELS, WINDOW: tl.constexpr, BIAS: tl.constexpr, SIDE: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_C: tl.constexpr, LENGTH: tl.constexpr, PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """Logits of a tile of queries at (y, x) and BLOCK_J keys of a frame's rectangle, from its start-th on.

    first_row: int64, the sample's first key. Returns the keys' indices and whether they exist, (BLOCK_J,); which keys
    each query may see, (BLOCK_Q, BLOCK_J); the addresses of the keys' rows, (BLOCK_J,); the logits, (BLOCK_Q, BLOCK_J).
    """
    e = start + tl.arange(0, BLOCK_J)
    used = e < rows * columns
    key_y, key_x = top + e // columns, left + e % columns
    key = tl.where(used, frame * H * W + key_y * W + key_x, 0)
    allowed = used[None, :] & near(
        bounds_ptr, ranks_ptr, limit, exempt, y, x, inside, tl.where(used, key_y, 0), tl.where(used, key_x, 0), HQ, WQ,
        H, W, WINDOW, SIDE, False,
    )  # fmt: skip
    if BIAS:
        bias = tl.load(bias_ptr + first_row + key, mask=used, other=0.0)
    else:
        bias = tl.zeros((BLOCK_J,), tl.float32)
    key_rows = keys_ptr + (first_row + key) * row_length(CHANNELS, BLOCK_C, LENGTH)
    s = logits(
        query_rows, key_rows, query, bias, used, allowed, CHANNELS, BLOCK_C, BLOCK_Q, BLOCK_J, LENGTH, PRECISION, UPCAST
    )
    return key, used, allowed, key_rows, s


@triton.jit
def add_values(
    weights, pointers, step, used, first, total, K, KP: tl.constexpr, SMALL: tl.constexpr, UPCAST: tl.constexpr
):
    """total (BLOCK_Q, KP) + weights (BLOCK_Q, BLOCK_J) @ values: pointers (BLOCK_J,) to channel 0, step to the next.

    Up to four channels of values (SMALL) are added one by one: a product on tensor cores would pad them to 16.
    """
    k = first + tl.arange(0, KP)
    if SMALL:
        for n in tl.static_range(KP):
            v = tl.load(pointers + n * step, mask=tl.where(used, first + n, K) < K, other=0.0)
            total += tl.where((k == first + n)[None, :], tl.sum(weights * v[None, :], 1)[:, None], 0.0)
    else:
        v = tl.load(
            pointers[:, None] + k[None, :].to(tl.int64) * step, mask=used[:, None] & (k < K)[None, :], other=0.0
        )
        total = product(weights, v, total, "tf32x3", UPCAST)
    return total


@jit_for_any_size
def warp_forward_kernel(
    query_ptr,  # (N, Q, CP) rows
    keys_ptr,  # (N, T*H*W, CP) rows
    values_ptr,  # (N, K, T*H*W) float32 contiguous
    bias_ptr,  # (N, T*H*W) float32 contiguous
    exempt_ptr,  # (T,) int32: 1 for frames that the window does not bound
    bounds_ptr,
    ranks_ptr,
    sums_ptr,  # (SPLIT, N, K, Q) float32: the warped values; with SPLIT > 1 not divided by their weights' sum yet
    state_ptr,  # (SPLIT, N, 3, Q) float32: lse, confidence, entropy; with SPLIT > 1 largest, sum of weights, of w * s
    index_ptr,  # (SPLIT, N, Q) int64, the key of the largest logit
    limit,
    N,
    K,
    HQ,
    WQ,
    H,
    W,
    FRAMES,
    CHANNELS,  # of a row
    SPLIT,
    WINDOW: tl.constexpr,  # a kind of windows.Windows
    BIAS: tl.constexpr,
    JOINED: tl.constexpr,  # whether SPLIT is more than 1
    KP: tl.constexpr,
    SMALL: tl.constexpr,
    SIDE: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_C: tl.constexpr,
    LENGTH: tl.constexpr,  # as in row_length
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """One program owns a tile of queries, KP channels of values and a part of the keys.

    On chip: logits (BLOCK_Q, BLOCK_J), sums (BLOCK_Q, KP), and the queries' rows where they are one block. Bytes: each
    row of keys once per tile of queries, from L2.
    """
    tile, n = tile_and_sample(tile_count(HQ, WQ, WINDOW, BLOCK_Q, SIDE))
    part, first = tl.program_id(1) % SPLIT, (tl.program_id(1) // SPLIT) * KP
    cells, keys, CP = HQ * WQ, FRAMES * H * W, row_length(CHANNELS, BLOCK_C, LENGTH)
    cell, y, x, inside = tile_cells(tile, HQ, WQ, WINDOW, BLOCK_Q, SIDE)
    query_rows = query_ptr + (n * cells + tl.where(inside, cell, 0)) * CP
    query = tl.load(query_rows[:, None] + tl.arange(0, BLOCK_C)[None, :])  # all of it, where it is one block
    largest = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_Q,), tl.float32)
    weighted = tl.zeros((BLOCK_Q,), tl.float32)
    index = tl.zeros((BLOCK_Q,), tl.int32)
    sums = tl.zeros((BLOCK_Q, KP), tl.float32)
    # Without a window all frames are one map, one below another.
    rounds = FRAMES if WINDOW != "none" else 1
    for frame in range(rounds):
        exempt = tl.load(exempt_ptr + frame) != 0
        tall = H if WINDOW != "none" else FRAMES * H
        top, left, rows, columns = tile_bounds(bounds_ptr, tile, exempt, HQ, WQ, tall, W, WINDOW, SIDE)
        for start in range(part * BLOCK_J, rows * columns, SPLIT * BLOCK_J):
            key, used, _, _, s = tile_logits(
                query_rows, query, keys_ptr, bias_ptr, bounds_ptr, ranks_ptr, limit, n * keys, frame, exempt, start,
                top, left, rows, columns, y, x, inside, HQ, WQ, H, W, CHANNELS, WINDOW, BIAS, SIDE, BLOCK_Q, BLOCK_J,
                BLOCK_C, LENGTH, PRECISION, UPCAST,
            )  # fmt: skip
            highest = tl.max(s, 1)
            index = tl.where(highest > largest, tl.min(tl.where(s == highest[:, None], key[None, :], 2147483647), 1),
                             index)  # fmt: skip
            highest = tl.maximum(largest, highest)
            base = tl.where(highest == float("-inf"), 0.0, highest)
            shrink = tl.exp(largest - base)
            weights = tl.exp(s - base[:, None])
            total = total * shrink + tl.sum(weights, 1)
            weighted = weighted * shrink + tl.sum(tl.where(s == float("-inf"), 0.0, weights * s), 1)
            sums = add_values(
                # n * 0: the step between channels in int64.
                weights, values_ptr + n * K * keys + key, n * 0 + keys, used, first, sums * shrink[:, None], K, KP,
                SMALL, UPCAST,
            )  # fmt: skip
            largest = highest
    k = first + tl.arange(0, KP)
    slab = part.to(tl.int64) * N + n
    state = state_ptr + slab * 3 * cells + cell
    # Of the programs that share the logits the first one stores; 0 * cell: of the shape of `inside`.
    stores = inside & (first + 0 * cell == 0)
    if not JOINED:
        sums = sums / total[:, None]
        lse = tl.log(total) + largest
        tl.store(state, lse, mask=stores)
        tl.store(state + cells, 1.0 / total, mask=stores)  # the largest weight is exp(0) / total
        tl.store(state + 2 * cells, lse - weighted / total, mask=stores)
    else:
        tl.store(state, largest, mask=stores)
        tl.store(state + cells, total, mask=stores)
        tl.store(state + 2 * cells, weighted, mask=stores)
    tl.store(index_ptr + slab * cells + cell, index.to(tl.int64), mask=stores)
    at = sums_ptr + (slab * K + k[None, :]) * cells + cell[:, None]
    tl.store(at, sums, mask=inside[:, None] & (k < K)[None, :])


@triton.jit
def warp_join_kernel(
    sums_ptr,  # (SPLIT, N, K, Q) float32
    state_ptr,  # (SPLIT, N, 3, Q): largest, sum of weights, of w * s
    index_ptr,  # (SPLIT, N, Q)
    out_ptr,  # (N, K, Q) float32
    ends_ptr,  # (N, 3, Q) float32: lse, confidence, entropy
    best_ptr,  # (N, Q) int64
    N,
    K,
    Q,
    SPLIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Joins the parts of the keys in order, so that two runs give the same bits. One program owns BLOCK queries."""
    tile, n = tile_and_sample((Q + BLOCK - 1) // BLOCK)
    q = tile * BLOCK + tl.arange(0, BLOCK)
    mask = q < Q
    largest = tl.full((BLOCK,), float("-inf"), tl.float32)
    index = tl.zeros((BLOCK,), tl.int64)
    for part in range(SPLIT):
        slab = (n * 0 + part) * N + n  # n * 0: in int64
        highest = tl.load(state_ptr + slab * 3 * Q + q, mask=mask, other=0.0)
        key = tl.load(index_ptr + slab * Q + q, mask=mask, other=0)
        better = (highest > largest) | ((highest == largest) & (key < index))
        index = tl.where(better, key, index)
        largest = tl.maximum(largest, highest)
    base = tl.where(largest == float("-inf"), 0.0, largest)
    total = tl.zeros((BLOCK,), tl.float32)
    weighted = tl.zeros((BLOCK,), tl.float32)
    for part in range(SPLIT):
        state = state_ptr + ((n * 0 + part) * N + n) * 3 * Q + q
        shrink = tl.exp(tl.load(state, mask=mask, other=0.0) - base)
        total += shrink * tl.load(state + Q, mask=mask, other=0.0)
        weighted += shrink * tl.load(state + 2 * Q, mask=mask, other=0.0)
    lse = tl.log(total) + largest
    ends = ends_ptr + n * 3 * Q + q
    tl.store(ends, lse, mask=mask)
    tl.store(ends + Q, 1.0 / total, mask=mask)
    tl.store(ends + 2 * Q, lse - weighted / total, mask=mask)
    tl.store(best_ptr + n * Q + q, index, mask=mask)
    for k in range(K):
        warped = tl.zeros((BLOCK,), tl.float32)
        for part in range(SPLIT):
            slab = (n * 0 + part) * N + n
            shrink = tl.exp(tl.load(state_ptr + slab * 3 * Q + q, mask=mask, other=0.0) - base)
            warped += shrink * tl.load(sums_ptr + (slab * K + k) * Q + q, mask=mask, other=0.0)
        tl.store(out_ptr + (n * K + k) * Q + q, warped / total, mask=mask)
