"""Triton kernel of SiamFC's head and loss: correlation, labels, loss and both gradients of a sample in one program.

The search is read from memory once; when it is read again for the gradients it is in the cache. The stages pass small
maps through memory (scores, slope), with a barrier between them.
"""

from __future__ import annotations

import triton
import triton.language as tl
from siamfast.kernels.balanced_logistic_loss.forward import cell_losses, class_weights, made_labels
from siamfast.kernels.xcorr.backward import accumulate_gradients
from siamfast.kernels.xcorr.forward import band_sums


@triton.jit
def xcorr_balanced_loss_kernel(
    z_ptr,  # (N, C, HZ, WZ), any strides
    x_ptr,  # (N, C, HX, WX), any strides
    scale_ptr,  # 1 float32 number, with SCALE
    bias_ptr,  # 1 float32 number, with BIAS
    labels_ptr,  # (N or 1, HO, WO) float32 contiguous
    centers_ptr,  # (N, 2) float32 contiguous: x, y in cells
    scores_ptr,  # (N, HO, WO) float32
    slope_ptr,  # (N, HO, WO) float32
    sums_ptr,  # (3, N) float32: per sample the loss, its slope by the bias and by the scale
    dz_ptr,  # (N, C, HZ, WZ) contiguous
    dx_ptr,  # (N, C, HX, WX), any strides
    samples,
    scale_constant,
    bias_constant,
    stride,
    r_pos,
    r_far,
    between,
    neg_weight,
    neutral,
    factor,
    z_n,
    z_c,
    z_y,
    z_x,
    x_n,
    x_c: tl.constexpr,
    x_y,
    x_x,
    dx_n,
    dx_c: tl.constexpr,
    dx_y,
    dx_x,
    C: tl.constexpr,
    HZ: tl.constexpr,
    WZ: tl.constexpr,
    HX: tl.constexpr,
    WX: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    SCALE: tl.constexpr,
    BIAS: tl.constexpr,
    LABELS: tl.constexpr,  # made: here; shared: one map for all samples; own: one per sample
    CENTERS: tl.constexpr,
    L2: tl.constexpr,
    BALANCE: tl.constexpr,  # sample; batch or cells, where all samples have the same labels
    FLAT: tl.constexpr,
    VECTOR: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    TEMPLATE_ROWS: tl.constexpr,
    BAND: tl.constexpr,
    KERNELS: tl.constexpr,
    TAPS: tl.constexpr,
    FORWARD_Q: tl.constexpr,
    FORWARD_C: tl.constexpr,
    CELLS: tl.constexpr,  # power of 2, at least the cells of the response
    BLOCK_M: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """One program owns one sample. Bytes: z, x, dz and dx once, and the maps of the response."""
    HO: tl.constexpr = HX + 2 * PH - HZ + 1
    WO: tl.constexpr = WX + 2 * PW - WZ + 1
    CHUNK: tl.constexpr = (C + FORWARD_C - 1) // FORWARD_C * FORWARD_C
    n = tl.program_id(0).to(tl.int64)
    for band in range((HO + BAND - 1) // BAND):
        total, row, column = band_sums(
            z_ptr, x_ptr, samples, n, 0, band, 0, CHUNK, z_n, z_c, z_y, z_x, x_n, x_c, x_y, x_x, C, 1, 1, False, HZ,
            WZ, HX, WX, PH, PW, VECTOR, PRECISION, UPCAST, TEMPLATE_ROWS, BAND, KERNELS, TAPS, FORWARD_Q, FORWARD_C,
        )  # fmt: skip
        out_y = band * BAND + row
        cell = n * (HO * WO) + (out_y * WO + column)[None, :] + tl.zeros((KERNELS, 1), tl.int32)
        mask = (tl.arange(0, KERNELS) < 1)[:, None] & ((row < BAND) & (out_y < HO) & (column < WO))[None, :]
        tl.store(scores_ptr + cell, total * scale_constant, mask=mask)
    tl.debug_barrier()

    k = tl.arange(0, CELLS)
    inside = k < HO * WO
    at = n * (HO * WO) + k
    plain = tl.load(scores_ptr + at, mask=inside, other=0.0)
    scale = 1.0
    if SCALE:
        scale = tl.load(scale_ptr)
    score = plain * scale + bias_constant
    if BIAS:
        score += tl.load(bias_ptr)
    if LABELS == "made":
        cx = (WO - 1) * 0.5
        cy = (HO - 1) * 0.5
        if CENTERS:
            cx = tl.load(centers_ptr + 2 * n)
            cy = tl.load(centers_ptr + 2 * n + 1)
        y = made_labels(
            (k // WO).to(tl.float32) - cy, (k % WO).to(tl.float32) - cx, stride, r_pos, r_far, between, L2
        )  # fmt: skip
    elif LABELS == "shared":
        y = tl.load(labels_ptr + k, mask=inside, other=-1.0)
    else:
        y = tl.load(labels_ptr + at, mask=inside, other=-1.0)
    y = tl.where(inside, y, -1.0)
    positives = tl.sum((y == 1.0).to(tl.float32), 0)
    negatives = tl.sum((y == 0.0).to(tl.float32), 0)
    if BALANCE != "sample":
        positives *= samples
        negatives *= samples
    positive, negative = class_weights(positives, negatives, samples, neg_weight, factor, BALANCE)
    loss, slope = cell_losses(score, y, positive, negative, neutral * factor)
    tl.store(scores_ptr + at, score, mask=inside)
    tl.store(slope_ptr + at, slope, mask=inside)
    tl.store(sums_ptr + n, tl.sum(loss, 0))
    tl.store(sums_ptr + samples + n, tl.sum(slope, 0))
    tl.store(sums_ptr + 2 * samples + n, tl.sum(tl.where(inside, slope * plain, 0.0), 0))
    tl.debug_barrier()

    m = tl.arange(0, BLOCK_M)
    i, j = m // WZ, m % WZ
    used = m < HZ * WZ
    z_at = n * z_n + i * z_y + j * z_x
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        mask = used[None, :] & (c < C)[:, None]
        z = tl.load(z_ptr + z_at[None, :] + c.to(tl.int64)[:, None] * z_c, mask=mask, other=0.0)
        dz = accumulate_gradients(
            slope_ptr, z, x_ptr, dx_ptr, tl.zeros((BLOCK_M, BLOCK_C), tl.float32), scale_constant * scale, n, 0 * m,
            i, j, used, c, x_n, x_c, x_y, x_x, dx_n, dx_c, dx_y, dx_x, C, 1, HZ, WZ, HX, WX, PH, PW, FLAT, PRECISION,
            UPCAST, BLOCK_Q, BLOCK_C,
        )  # fmt: skip
        to = dz_ptr + (n * C + c)[None, :] * (HZ * WZ) + (i * WZ + j)[:, None]
        tl.store(to, (dz * (scale_constant * scale)).to(dz_ptr.dtype.element_ty), mask=used[:, None] & (c < C)[None, :])
