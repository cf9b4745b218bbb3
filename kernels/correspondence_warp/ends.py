"""What the backward kernels need of each query beside the rows: four numbers, and the units of the slopes."""

from __future__ import annotations

import triton
import triton.language as tl
from siamfast.kernels.correspondence_warp.windows import tile_and_sample


@triton.jit(
    do_not_specialize=["Q", "K"],
    do_not_specialize_on_alignment=[
        "grad_ptr", "warped_ptr", "lse_ptr", "confidence_ptr", "entropy_ptr", "d_lse_ptr", "d_confidence_ptr",
        "d_entropy_ptr",
    ],
)  # fmt: skip
def warp_ends_kernel(
    grad_ptr,  # (N, K, Q) float32: g
    warped_ptr,  # (N, K, Q) float32: forward's values
    lse_ptr,  # (N, Q) float32, as the next five
    confidence_ptr,
    entropy_ptr,
    d_lse_ptr,
    d_confidence_ptr,
    d_entropy_ptr,
    largest_ptr,  # (N, K) float32: the largest size of each channel of the values
    ends_ptr,  # (N, 4, Q) float32: lse, r, e, c, as in backward.py
    units_ptr,  # (N,) int32: the bits of float32 numbers above 0
    Q,
    K,
    UNITS: tl.constexpr,
    LARGEST: tl.constexpr,  # in units: what a slope is at most
    BLOCK: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One program owns BLOCK queries of a sample. Bytes: all inputs and outputs once.

    A slope is p (<g, v> + r - e ln p) + c, with a weight p up to the confidence, and -p ln p up to 1 / e. The largest
    over the queries is of integers, whose order is that of positive numbers: the same bits in any order of programs. A
    query whose numbers are not finite does not decide about the others'.
    """
    tile, n = tile_and_sample(tl.cdiv(Q, BLOCK))
    q = tile * BLOCK + tl.arange(0, BLOCK)
    inside = q < Q
    agreed, most = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for first in range(0, K, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        both = (k < K)[:, None] & inside[None, :]
        at = (n * K + k)[:, None] * Q + q[None, :]
        g = tl.load(grad_ptr + at, mask=both, other=0.0)
        agreed += tl.sum(g * tl.load(warped_ptr + at, mask=both, other=0.0), 0)
        if UNITS:
            largest = tl.load(largest_ptr + n * K + k, mask=k < K, other=0.0)
            most += tl.sum(tl.abs(g) * largest[:, None], 0)
    at = n * Q + q
    lse, entropy = tl.load(lse_ptr + at, mask=inside, other=0.0), tl.load(entropy_ptr + at, mask=inside, other=0.0)
    confidence = tl.load(confidence_ptr + at, mask=inside, other=0.0)
    spread = tl.load(d_entropy_ptr + at, mask=inside, other=0.0)
    certain = confidence * tl.load(d_confidence_ptr + at, mask=inside, other=0.0)
    shared = tl.load(d_lse_ptr + at, mask=inside, other=0.0) - agreed - certain - spread * entropy
    ends = ends_ptr + n * 4 * Q + q
    tl.store(ends, lse, mask=inside)
    tl.store(ends + Q, shared, mask=inside)
    tl.store(ends + 2 * Q, spread, mask=inside)
    tl.store(ends + 3 * Q, certain, mask=inside)
    if UNITS:
        bound = confidence * (most + tl.abs(shared)) + tl.abs(spread) + tl.abs(certain)
        unit = tl.max(tl.where(bound < float("inf"), bound, 0.0), 0) / LARGEST
        tl.atomic_max(units_ptr + n, unit.to(tl.int32, bitcast=True), sem="relaxed")
