"""Triton kernels of correspondence_warp with a top k, forward and backward: lists of the k largest logits per query.

The first kernel lists each query's k best keys; the second joins the parts of the keys, sorts, and weighs values; two
more compute slopes through the chosen keys alone, O(N k C). Exact: ties go to the key with the lower index.
"""

from __future__ import annotations

import triton
import triton.language as tl
from siamfast.kernels.correspondence_warp.forward import row_length, tile_logits
from siamfast.kernels.correspondence_warp.windows import (
    jit_for_any_size,
    tile_and_sample,
    tile_bounds,
    tile_cells,
    tile_count,
)

NO_KEY = tl.constexpr(2147483647)  # index of an empty place in a list
# The least float32 of full precision, for logarithms. A smaller number written here would be a float64 to Triton, and
# so would all that is computed from it.
LEAST = tl.constexpr(2.0**-126)


@triton.jit
def insert_best(s, key, best, index, PLACES: tl.constexpr):
    """Inserts logits s (BLOCK_Q, BLOCK_J) into the lists best, index (BLOCK_Q, PLACES), of which KT places are used.

    One round takes the largest logit of each row, if it beats the least of its list; a tile where none does is skipped.
    """
    place = tl.arange(0, PLACES)
    # Places beyond KT are +inf, so they are never the least.
    least = tl.min(best, 1)
    highest = tl.max(s, 1)
    while tl.max((highest > least).to(tl.int32), 0) > 0:
        beats = highest > least
        at = tl.min(tl.where(s == highest[:, None], key[None, :], NO_KEY), 1)
        # Among equal least ones, the one with the highest index is replaced.
        out = tl.max(tl.where(best == least[:, None], index, -1), 1)
        # Empty places share their index, so the first of them is filled.
        spot = tl.min(tl.where((best == least[:, None]) & (index == out[:, None]), place[None, :], PLACES), 1)
        hit = beats[:, None] & (place[None, :] == spot[:, None])
        best = tl.where(hit, highest[:, None], best)
        index = tl.where(hit, at[:, None], index)
        s = tl.where(beats[:, None] & (key[None, :] == at[:, None]), float("-inf"), s)
        least = tl.min(best, 1)
        highest = tl.max(s, 1)
    return best, index


@jit_for_any_size
def warp_lists_kernel(
    query_ptr,  # (N, Q, CP) rows
    keys_ptr,  # (N, T*H*W, CP) rows
    bias_ptr,  # (N, T*H*W) float32 contiguous
    exempt_ptr,  # (T,) int32
    bounds_ptr,
    ranks_ptr,
    best_ptr,  # (N, Q, SPLIT, KT) float32: the k largest logits of each part, in no order
    index_ptr,  # (N, Q, SPLIT, KT) int32
    state_ptr,  # (N, Q, SPLIT, 2) float32: largest logit of all keys, and their sum of exp(s - largest)
    limit,
    HQ,
    WQ,
    H,
    W,
    FRAMES,
    CHANNELS,  # of a row
    SPLIT,
    KT,
    WINDOW: tl.constexpr,  # a kind of windows.Windows
    BIAS: tl.constexpr,
    PLACES: tl.constexpr,  # power of 2, at least KT
    SIDE: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_C: tl.constexpr,
    LENGTH: tl.constexpr,  # as in row_length
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """One program owns a tile of queries and a part of the keys. On chip: logits (BLOCK_Q, BLOCK_J) and lists."""
    tile, n = tile_and_sample(tile_count(HQ, WQ, WINDOW, BLOCK_Q, SIDE))
    part = tl.program_id(1)
    cells, keys, CP = HQ * WQ, FRAMES * H * W, row_length(CHANNELS, BLOCK_C, LENGTH)
    cell, y, x, inside = tile_cells(tile, HQ, WQ, WINDOW, BLOCK_Q, SIDE)
    query_rows = query_ptr + (n * cells + tl.where(inside, cell, 0)) * CP
    query = tl.load(query_rows[:, None] + tl.arange(0, BLOCK_C)[None, :])
    place = tl.arange(0, PLACES)
    best = tl.zeros((BLOCK_Q, PLACES), tl.float32) + tl.where(place < KT, float("-inf"), float("inf"))[None, :]
    index = tl.full((BLOCK_Q, PLACES), NO_KEY, tl.int32)
    largest = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_Q,), tl.float32)
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
            highest = tl.maximum(largest, tl.max(s, 1))
            base = tl.where(highest == float("-inf"), 0.0, highest)
            total = total * tl.exp(largest - base) + tl.sum(tl.exp(s - base[:, None]), 1)
            largest = highest
            best, index = insert_best(s, tl.where(used, key, NO_KEY - 1), best, index, PLACES)
    row = (n * cells + cell) * SPLIT + part
    to = row[:, None] * KT + place[None, :]
    mask = inside[:, None] & (place < KT)[None, :]
    tl.store(best_ptr + to, best, mask=mask)
    tl.store(index_ptr + to, index, mask=mask)
    tl.store(state_ptr + row * 2, largest, mask=inside)
    tl.store(state_ptr + row * 2 + 1, total, mask=inside)


@triton.jit
def warp_chosen_kernel(
    best_ptr,  # (N, Q, SPLIT * KT) float32
    index_ptr,  # (N, Q, SPLIT * KT) int32
    state_ptr,  # (N, Q, SPLIT, 2) float32
    values_ptr,  # (N, K, J) float32 contiguous
    out_ptr,  # (N, K, Q) float32
    ends_ptr,  # (N, 3, Q) float32: lse, confidence, entropy
    chosen_ptr,  # (N, KT, Q) int64
    K,
    Q,
    J,
    SPLIT: tl.constexpr,
    PARTS: tl.constexpr,  # power of 2, at least SPLIT
    KT: tl.constexpr,
    LISTED: tl.constexpr,  # power of 2, at least SPLIT * KT
    POST: tl.constexpr,  # weights of all keys' softmax, not of the chosen ones'
    BLOCK: tl.constexpr,
):
    """The best KT of all parts, largest first, and the values under their weights. One program owns BLOCK queries."""
    tile, n = tile_and_sample((Q + BLOCK - 1) // BLOCK)
    q = tile * BLOCK + tl.arange(0, BLOCK)
    inside = q < Q
    row = n * Q + q
    part = tl.arange(0, PARTS)
    state = state_ptr + (row[:, None] * SPLIT + part[None, :]) * 2
    listed = inside[:, None] & (part < SPLIT)[None, :]
    largest = tl.load(state, mask=listed, other=float("-inf"))
    sums = tl.load(state + 1, mask=listed, other=0.0)
    highest = tl.max(largest, 1)
    base = tl.where(highest == float("-inf"), 0.0, highest)
    total = tl.sum(tl.exp(largest - base[:, None]) * sums, 1)
    lse = tl.log(total) + base
    i = tl.arange(0, LISTED)
    listed = inside[:, None] & (i < SPLIT * KT)[None, :]
    s = tl.load(best_ptr + row[:, None] * (SPLIT * KT) + i[None, :], mask=listed, other=float("-inf"))
    key = tl.load(index_ptr + row[:, None] * (SPLIT * KT) + i[None, :], mask=listed, other=2147483647)
    # A key's place is the number of keys ahead of it. Empty entries (-inf, NO_KEY) come last, in the order of the list.
    ahead = (s[:, None, :] > s[:, :, None]) | (
        (s[:, None, :] == s[:, :, None])
        & (
            (key[:, None, :] < key[:, :, None])
            | ((key[:, None, :] == key[:, :, None]) & (i[None, None, :] < i[None, :, None]))
        )
    )
    place = tl.sum(ahead.to(tl.int32), 2)
    kept = listed & (place < KT)
    key = tl.where(key < J, key, 0)  # a query that is NaN has no chosen keys
    weights = tl.where(kept, tl.exp(s - base[:, None]), 0.0)
    # total * 0.0: a NaN among the logits must reach all weights; it is in their sum, but never in a list.
    denominator = total if POST else tl.sum(weights, 1) + total * 0.0
    weights = weights / denominator[:, None]
    tl.store(chosen_ptr + (n * KT + place) * Q + q[:, None], key.to(tl.int64), mask=kept)
    ends = ends_ptr + n * 3 * Q + q
    tl.store(ends, lse, mask=inside)
    confidence = tl.sum(tl.where(place == 0, weights, 0.0), 1)
    tl.store(ends + Q, confidence, mask=inside)
    spread = tl.where(weights > 0, weights * tl.log(tl.maximum(weights, LEAST)), weights * 0.0)  # NaN stays
    tl.store(ends + 2 * Q, -tl.sum(spread, 1), mask=inside)
    for k in range(K):
        v = tl.load(values_ptr + (n * K + k) * J + key, mask=kept, other=0.0)
        tl.store(out_ptr + (n * K + k) * Q + q, tl.sum(weights * v, 1), mask=inside)


@triton.jit
def warp_top_slopes_kernel(
    query_ptr,  # (N, Q, CP) rows
    keys_ptr,  # (N, J, CP) rows
    values_ptr,  # (N, K, J) float32 contiguous
    bias_ptr,  # (N, J) float32 contiguous
    index_ptr,  # (N, KT, Q) int64, largest first
    grad_ptr,  # (N, K, Q) float32
    ends_ptr,  # (N, 2, Q) float32: slopes of confidence and entropy
    weights_ptr,  # (N, Q, KT) float32: of the chosen keys
    slopes_ptr,  # (N, Q, KT) float32: of their logits
    d_query_ptr,  # (N, Q, CP) float32: of the query's row
    K,
    Q,
    J,
    BIAS: tl.constexpr,
    CP: tl.constexpr,
    KT: tl.constexpr,
    PLACES: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """ds = w (a - sum w a), w = softmax of the chosen logits, a = slope of the weights. One program owns one query."""
    q, n = tile_and_sample(Q)
    place, c = tl.arange(0, PLACES), tl.arange(0, BLOCK_C)
    used = place < KT
    key = tl.load(index_ptr + (n * KT + place) * Q + q, mask=used, other=0)
    rows = keys_ptr + (n * J + key) * CP
    s = tl.zeros((PLACES,), tl.float32)
    for start in range(0, CP, BLOCK_C):
        k = tl.load(rows[:, None] + (start + c)[None, :], mask=used[:, None] & (start + c < CP)[None, :], other=0.0)
        x = tl.load(query_ptr + (n * Q + q) * CP + start + c, mask=start + c < CP, other=0.0)
        s += tl.sum(k.to(tl.float32) * x.to(tl.float32)[None, :], 1)
    if BIAS:
        s += tl.load(bias_ptr + n * J + key, mask=used, other=0.0)
    s = tl.where(used, s, float("-inf"))
    w = tl.exp(s - tl.max(s, 0))
    w = w / tl.sum(w, 0)
    slope_of_weight = tl.zeros((PLACES,), tl.float32)
    for channel in range(K):
        g = tl.load(grad_ptr + (n * K + channel) * Q + q)
        slope_of_weight += g * tl.load(values_ptr + (n * K + channel) * J + key, mask=used, other=0.0)
    # The first place has the largest weight; entropy is -sum w log w.
    slope_of_weight += tl.where(place == 0, tl.load(ends_ptr + n * 2 * Q + q), 0.0)
    slope_of_weight -= tl.load(ends_ptr + n * 2 * Q + Q + q) * (tl.log(tl.maximum(w, LEAST)) + 1.0)
    slope = tl.where(used, w * (slope_of_weight - tl.sum(w * slope_of_weight, 0)), 0.0)
    to = (n * Q + q) * KT + place
    tl.store(weights_ptr + to, w, mask=used)
    tl.store(slopes_ptr + to, slope, mask=used)
    for start in range(0, CP, BLOCK_C):
        k = tl.load(rows[:, None] + (start + c)[None, :], mask=used[:, None] & (start + c < CP)[None, :], other=0.0)
        d_query = tl.sum(k.to(tl.float32) * slope[:, None], 0)
        tl.store(d_query_ptr + (n * Q + q) * CP + start + c, d_query, mask=start + c < CP)


@triton.jit
def warp_top_keys_kernel(
    query_ptr,  # (N, Q, CP) rows
    grad_ptr,  # (N, K, Q) float32
    weights_ptr,  # (N, Q, KT) float32
    slopes_ptr,  # (N, Q, KT) float32
    order_ptr,  # (N, Q * KT) int64: choices (q, place), sorted by key, stable
    begins_ptr,  # (N, J + 1) int64: where each key's choices begin
    d_keys_ptr,  # (N, J, CP) float32
    d_values_ptr,  # (N, K, J) float32
    d_bias_ptr,  # (N, J) float32
    K,
    Q,
    J,
    NEED_VALUES: tl.constexpr,
    CP: tl.constexpr,
    KT: tl.constexpr,
    STEP: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One program owns one key: it adds up the queries that chose it, STEP at once; two runs give the same bits."""
    key, n = tile_and_sample(J)
    begin = tl.load(begins_ptr + n * (J + 1) + key)
    end = tl.load(begins_ptr + n * (J + 1) + key + 1)
    step, c, channel = tl.arange(0, STEP), tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_K)
    bias = tl.zeros((STEP,), tl.float32)
    for start in range(0, CP, BLOCK_C):
        inside = start + c < CP
        d_keys = tl.zeros((STEP, BLOCK_C), tl.float32)
        bias = tl.zeros((STEP,), tl.float32)
        for at in range(begin, end, STEP):
            listed = at + step < end
            choice = tl.load(order_ptr + n * Q * KT + at + step, mask=listed, other=0)
            slope = tl.load(slopes_ptr + n * Q * KT + choice, mask=listed, other=0.0)
            row = query_ptr + (n * Q + choice // KT) * CP + start
            x = tl.load(row[:, None] + c[None, :], mask=listed[:, None] & inside[None, :], other=0.0)
            d_keys += slope[:, None] * x.to(tl.float32)
            bias += slope
        tl.store(d_keys_ptr + (n * J + key) * CP + start + c, tl.sum(d_keys, 0), mask=inside)
    tl.store(d_bias_ptr + n * J + key, tl.sum(bias, 0))
    if NEED_VALUES:
        for first in range(0, K, BLOCK_K):
            inside = first + channel < K
            d_values = tl.zeros((STEP, BLOCK_K), tl.float32)
            for at in range(begin, end, STEP):
                listed = at + step < end
                choice = tl.load(order_ptr + n * Q * KT + at + step, mask=listed, other=0)
                weight = tl.load(weights_ptr + n * Q * KT + choice, mask=listed, other=0.0)
                of_channel = grad_ptr + (n * K + first + channel) * Q
                query = (choice // KT)[:, None]
                g = tl.load(of_channel[None, :] + query, mask=listed[:, None] & inside[None, :], other=0.0)
                d_values += weight[:, None] * g
            to = d_values_ptr + (n * K + first + channel) * J + key
            tl.store(to, tl.sum(d_values, 0), mask=inside)
