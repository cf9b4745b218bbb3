"""Triton kernel of SiamFC's head and loss: correlation, labels, loss and both gradients of a sample in one program.

The search is read from memory once: its second reading, for the gradients, finds it in the cache. Stages hand over
through small maps in memory (scores, slope), with a barrier between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from siamfast.kernels import chips
from siamfast.kernels.balanced_logistic_loss import cell_losses, class_weights, made_labels
from siamfast.kernels.integers import cdiv, next_power_of_2
from siamfast.kernels.xcorr import band_sums
from siamfast.kernels.xcorr_backward import meet
from siamfast.kernels.xcorr_launch import (
    forward_blocks,
    forward_config,
    gradients_config,
    is_flat,
    precision,
    vector,
)

if TYPE_CHECKING:
    from siamfast.ops.balanced_logistic_loss.call import Options

_L2, _IGNORE, _HALF_WEIGHTED, _NONE = 1, 1, 2, 2  # places in Options' tuples


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
    sums_ptr,  # (3, N) float32: each sample's loss, slope by the bias, slope by the scale
    dz_ptr,  # (N, C, HZ, WZ) contiguous
    dx_ptr,  # (N, C, HX, WX), any strides
    samples,
    alpha,
    beta,
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
    LABELS: tl.constexpr,  # 0: made here, 1: one map for all, 2: one a sample
    CENTERS: tl.constexpr,
    L2: tl.constexpr,
    BALANCE: tl.constexpr,  # 0: sample; 1: batch, 2: cells, for which all samples have the same labels
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
    CELLS: tl.constexpr,  # power of 2 that holds the response
    BLOCK_M: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """One program: one sample. Bytes: z and x once, dz and dx once, the response's maps."""
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
        tl.store(scores_ptr + cell, total * alpha, mask=mask)
    tl.debug_barrier()

    k = tl.arange(0, CELLS)
    inside = k < HO * WO
    at = n * (HO * WO) + k
    plain = tl.load(scores_ptr + at, mask=inside, other=0.0)
    scale = 1.0
    if SCALE:
        scale = tl.load(scale_ptr)
    score = plain * scale + beta
    if BIAS:
        score += tl.load(bias_ptr)
    if LABELS == 0:
        cx = (WO - 1) * 0.5
        cy = (HO - 1) * 0.5
        if CENTERS:
            cx = tl.load(centers_ptr + 2 * n)
            cy = tl.load(centers_ptr + 2 * n + 1)
        y = made_labels(
            (k // WO).to(tl.float32) - cy, (k % WO).to(tl.float32) - cx, stride, r_pos, r_far, between, L2
        )  # fmt: skip
    elif LABELS == 1:
        y = tl.load(labels_ptr + k, mask=inside, other=-1.0)
    else:
        y = tl.load(labels_ptr + at, mask=inside, other=-1.0)
    y = tl.where(inside, y, -1.0)
    positives = tl.sum((y == 1.0).to(tl.float32), 0)
    negatives = tl.sum((y == 0.0).to(tl.float32), 0)
    if BALANCE != 0:
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
        known = used[None, :] & (c < C)[:, None]
        z = tl.load(z_ptr + z_at[None, :] + c.to(tl.int64)[:, None] * z_c, mask=known, other=0.0)
        dz = meet(
            slope_ptr, z, x_ptr, dx_ptr, tl.zeros((BLOCK_M, BLOCK_C), tl.float32), alpha * scale, n, 0 * m, i, j, used,
            c, x_n, x_c, x_y, x_x, dx_n, dx_c, dx_y, dx_x, C, 1, HZ, WZ, HX, WX, PH, PW, FLAT, PRECISION, UPCAST,
            BLOCK_Q, BLOCK_C,
        )  # fmt: skip
        to = dz_ptr + (n * C + c)[None, :] * (HZ * WZ) + (i * WZ + j)[:, None]
        tl.store(to, (dz * (alpha * scale)).to(dz_ptr.dtype.element_ty), mask=used[:, None] & (c < C)[None, :])


def config(
    hz: int, wz: int, height: int, width: int, channels: int, size: int, product: str, chip: int, shared: int
) -> dict[str, int] | None:
    """How a sample is cut up; height, width: of the padded search. None where a template or a response is too large."""
    blocks = forward_blocks(hz, wz, height, width, 1, product)
    both = gradients_config(hz * wz, size, product, wide=True)
    cells = next_power_of_2((height - hz + 1) * (width - wz + 1))
    if blocks is None or both is None or blocks["TEMPLATE_ROWS"] < hz or both["BLOCK_M"] > 64 or cells > 4096:
        return None
    forward = forward_config(blocks, channels, size, product, chip, shared)
    channels_at_once = forward["BLOCK_C"] if chips.multiplies_from_shared(chip) else 16  # more spill
    return {
        **{name: blocks[name] for name in ("TEMPLATE_ROWS", "BAND", "KERNELS", "TAPS")},
        "FORWARD_Q": blocks["BLOCK_Q"], "FORWARD_C": channels_at_once,
        "CELLS": cells,
        **{name: both[name] for name in ("BLOCK_M", "BLOCK_Q", "BLOCK_C")},
        "num_warps": 8, "num_stages": forward["num_stages"],
    }  # fmt: skip


def config_of(z: torch.Tensor, x: torch.Tensor, ph: int, pw: int) -> dict[str, int] | None:
    """`config` for these tensors."""
    sizes = *z.shape[2:], x.shape[2] + 2 * ph, x.shape[3] + 2 * pw
    return config(*sizes, x.shape[1], x.element_size(), precision(x), *chips.chip_and_shared(x.device))


def launch(
    z: torch.Tensor,  # (N, C, Hz, Wz)
    x: torch.Tensor,  # (N, C, Hx, Wx), not empty
    scale: torch.Tensor | None,  # 1 float32 number
    bias: torch.Tensor | None,
    alpha: float,
    beta: float,
    ph: int,
    pw: int,
    labels: torch.Tensor | None,  # (N or 1, Ho, Wo) float32
    centers: torch.Tensor | None,  # (N, 2) float32
    options: Options,
    dx: torch.Tensor,  # as x: filled
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # sums (3, N), scores (N, 1, Ho, Wo), dz
    samples, channels, height, width = x.shape
    hz, wz = z.shape[2:]
    ho, wo = height + 2 * ph - hz + 1, width + 2 * pw - wz + 1
    scores, slope = torch.empty((2, samples, 1, ho, wo), dtype=torch.float32, device=x.device)
    sums = torch.empty((3, samples), dtype=torch.float32, device=x.device)
    dz = torch.empty(z.shape, dtype=z.dtype, device=z.device)
    chosen = config_of(z, x, ph, pw)
    assert chosen is not None
    blocks = chosen | {"BLOCK_Q": chosen["FORWARD_Q"]}
    wide = vector(width, height, x.stride(1), x.element_size(), blocks) if is_flat(x) and ph == pw == 0 else 0
    with torch.cuda.device_of(x):
        xcorr_balanced_loss_kernel[(samples,)](
            z, x, scores if scale is None else scale, scores if bias is None else bias,
            scores if labels is None else labels.contiguous(), scores if centers is None else centers.contiguous(),
            scores, slope, sums, dz, dx, samples, alpha, beta, options.stride, options.r_pos,
            max(options.r_neg, options.r_pos), -1.0 if options.neutral == _IGNORE else 0.5, options.neg_weight,
            1.0 if options.neutral == _HALF_WEIGHTED else 0.0, options.factor(samples), *z.stride(), *x.stride(),
            *dx.stride(), channels, HZ=hz, WZ=wz, HX=height, WX=width, PH=ph, PW=pw, SCALE=scale is not None,
            BIAS=bias is not None, LABELS=0 if labels is None else 2 if labels.shape[0] > 1 else 1,
            CENTERS=centers is not None, L2=options.metric == _L2, BALANCE=options.balance,
            FLAT=is_flat(x) and is_flat(dx), VECTOR=wide, PRECISION=precision(x), UPCAST=not x.is_cuda, **chosen,
        )  # fmt: skip
    return sums, scores, dz


SCALE_BLOCK = 4096


@triton.jit
def scale_samples_kernel(data_ptr, grad_ptr, count, BLOCK: tl.constexpr):
    """data[n] *= grad[n], in place; nothing is read or written where the factor is 1, which it is in most trainings."""
    n = tl.program_id(0).to(tl.int64)
    factor = tl.load(grad_ptr + n)
    if factor != 1.0:
        k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        at = data_ptr + n * count + k
        value = tl.load(at, mask=k < count, other=0.0)
        tl.store(at, (value.to(tl.float32) * factor).to(value.dtype), mask=k < count)


def scale_samples(data: torch.Tensor, grad: torch.Tensor) -> None:
    """In place; data: (N, ...) dense, samples one after another; grad: (N,) float32 contiguous."""
    count = data[0].numel()
    with torch.cuda.device_of(data):
        scale_samples_kernel[(len(data), cdiv(count, SCALE_BLOCK))](data, grad, count, BLOCK=SCALE_BLOCK)
