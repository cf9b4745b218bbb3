"""Triton kernel of correspondence_warp's gradients without a window: from stored logits to the slopes of the logits.

On an H200 cuBLAS multiplies several times faster than kernels that keep each tile of logits on the chip, because those
multiply query and key again for every slice of channels. So for some queries at a time the logits are a product, this
kernel makes them their slopes, and two more products take those to the rows (launch_dense.py). What the slopes are is
in backward.py.
Bytes: 4 read and 2 written of each pair (4 where rows are float32), which the L2 holds.
"""

from __future__ import annotations

import triton
import triton.language as tl
from siamfast.kernels.correspondence_warp.backward import add_value_products
from siamfast.kernels.correspondence_warp.windows import tile_and_sample
from siamfast.kernels.tf32 import product


# Specialized on what makes many loads and stores wide, so that there are few programs: the keys' number and values.
@triton.jit(
    do_not_specialize=["first", "samples", "R", "Q", "K", "part_rows"],
    do_not_specialize_on_alignment=["bias_ptr", "grad_ptr"],
)
def warp_logit_slopes_kernel(
    logits_ptr,  # (N, R, J) float32 contiguous, without the bias: of the queries from `first` on
    slopes_ptr,  # (N, R, WIDTH) of the rows' dtype, of which J are written
    units_ptr,  # (N,) float32: the slopes' units
    values_ptr,  # (N, K, J) float32 contiguous
    bias_ptr,  # (N, J) float32 contiguous
    grad_ptr,  # (N, K, Q) float32: g
    ends_ptr,  # (N, 4, Q) float32: lse, r, e, c
    index_ptr,  # (N, Q) int64: the best key
    d_values_ptr,  # (parts, N, K, J) float32
    d_bias_ptr,  # (parts, N, J) float32
    first,
    samples,
    R,
    Q,
    J,
    K,
    WIDTH,
    part_rows,  # queries of a part
    BIAS: tl.constexpr,
    UNITS: tl.constexpr,
    OF_VALUES: tl.constexpr,  # whether slopes of the values are wanted
    KP: tl.constexpr,  # >= K
    SMALL: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_J: tl.constexpr,
    SLOPES: tl.constexpr,  # precision of the product with slopes
    UPCAST: tl.constexpr,
):
    """One program owns BLOCK_J keys of a sample, and goes over the queries of a part."""
    tile, n = tile_and_sample((J + BLOCK_J - 1) // BLOCK_J)
    part = tl.program_id(1)
    key = tile * BLOCK_J + tl.arange(0, BLOCK_J)
    inside = key < J
    bias = tl.zeros((BLOCK_J,), tl.float32)
    if BIAS:
        bias = tl.load(bias_ptr + n * J + key, mask=inside, other=0.0)
    scale = 1.0
    if UNITS:
        scale = 1.0 / tl.load(units_ptr + n)
    values = values_ptr + n * K * J + key
    channel = tl.arange(0, KP)
    d_values = tl.zeros((KP, BLOCK_J), tl.float32)
    d_bias = tl.zeros((BLOCK_J,), tl.float32)
    for start in range(0, part_rows, BLOCK_Q):
        row = part * part_rows + start + tl.arange(0, BLOCK_Q)
        used = row < R
        query = first + row
        both = used[:, None] & inside[None, :]
        at = (n * R + row)[:, None] * J + key[None, :]
        ends = ends_ptr + n * 4 * Q + query
        s = tl.load(logits_ptr + at, mask=both, other=0.0) + bias[None, :]
        s -= tl.load(ends, mask=used, other=0.0)[:, None]
        weights = tl.where(both, tl.exp(s), 0.0)
        grads = grad_ptr + n * K * Q + query
        shared = tl.load(ends + Q, mask=used, other=0.0)
        spread = tl.load(ends + 2 * Q, mask=used, other=0.0)
        slope = shared[:, None] - spread[:, None] * tl.where(s == float("-inf"), 0.0, s)
        slope = weights * add_value_products(slope, grads, values, used, inside, Q, J, K, KP, SMALL, UPCAST)
        best = tl.load(index_ptr + n * Q + query, mask=used, other=-1)
        certain = tl.load(ends + 3 * Q, mask=used, other=0.0)
        slope += tl.where(best[:, None] == key[None, :], certain[:, None], 0.0)
        slope = tl.where(both, slope, 0.0)
        d_bias += tl.sum(slope, 0)
        if OF_VALUES:
            of_channels = grads[None, :] + channel.to(tl.int64)[:, None] * Q
            g = tl.load(of_channels, mask=(channel < K)[:, None] & used[None, :], other=0.0)
            d_values = product(g, weights, d_values, SLOPES, UPCAST)
        at = (n * R + row)[:, None] * WIDTH + key[None, :]
        tl.store(slopes_ptr + at, (slope * scale).to(slopes_ptr.dtype.element_ty), mask=both)
    to = part.to(tl.int64) * samples + n
    tl.store(d_bias_ptr + to * J + key, d_bias, mask=inside)
    if OF_VALUES:
        of_values = (to * K + channel)[:, None] * J + key[None, :]
        tl.store(d_values_ptr + of_values, d_values, mask=(channel < K)[:, None] & inside[None, :])
