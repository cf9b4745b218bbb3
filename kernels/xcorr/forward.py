"""Triton kernels of the full correlation (also pixelwise, its case of 1x1 kernels), forward.

G[(o, i, j), q] = sum_c z[o, c, i, j] x[c, q] is a matrix product on tensor cores that never leaves the chip;
response[o, q] = sum_ij G[(o, i, j), q + i*W + j] gathers its shifted diagonals. Gradients: backward.py.
"""

from __future__ import annotations

import triton
import triton.language as tl
from siamfast.kernels.tf32 import product


@triton.jit
def band_sums(
    z_ptr, x_ptr, nz, n, first, band, first_c, CHUNK: tl.constexpr, z_n, z_c, z_y, z_x, x_n, x_c: tl.constexpr, x_y,
    x_x, C: tl.constexpr, OUTPUTS, PER_TEMPLATE, ALL_PAIRS: tl.constexpr, HZ: tl.constexpr, WZ: tl.constexpr,
    HX: tl.constexpr, WX: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr, VECTOR: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, TEMPLATE_ROWS: tl.constexpr, BAND: tl.constexpr,
    KERNELS: tl.constexpr, TAPS: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Response of kernels [first, first + KERNELS) on a band of search n, over CHUNK channels from first_c on.

    Returns the sums (KERNELS, BLOCK_Q) and where they are: row of the band and column, (BLOCK_Q,) each. Arguments as
    for full_forward_kernel.
    """
    WP: tl.constexpr = WX + 2 * PW
    m = tl.arange(0, KERNELS * TAPS)
    tap, o = m % TAPS, first + m // TAPS
    i, j = tap // WZ, tap % WZ
    if ALL_PAIRS:
        template = (o // PER_TEMPLATE).to(tl.int64)
    else:
        template = (n % nz) + 0 * o.to(tl.int64)  # of the shape of o
    z_rows = template * z_n + ((o % PER_TEMPLATE) * C).to(tl.int64) * z_c + j * z_x
    q = tl.arange(0, BLOCK_Q)
    row, column = q // WP, q % WP
    total = tl.zeros((KERNELS, BLOCK_Q), tl.float32)
    for top in range(0, HZ, TEMPLATE_ROWS):
        used = (tap < TEMPLATE_ROWS * WZ) & (top + i < HZ) & (o < OUTPUTS)
        z_at = z_rows + (top + i) * z_y
        if VECTOR > 0:
            # Rows beyond the band are read but not used: a mask by rows would split the loads into single pixels.
            x_at = tl.multiple_of((band * BAND + top) * WX, VECTOR) + q
            valid = x_at < HX * WX
        else:
            y = band * BAND + top + row - PH
            x_at = y * x_y + (column - PW) * x_x
            valid = (row < BAND + TEMPLATE_ROWS - 1) & (y >= 0) & (y < HX) & (column >= PW) & (column < PW + WX)
        grid = tl.zeros((KERNELS * TAPS, BLOCK_Q), tl.float32)
        for step in range(0, CHUNK, BLOCK_C):
            c = first_c + step + tl.arange(0, BLOCK_C)
            z = tl.load(
                z_ptr + z_at[:, None] + c.to(tl.int64)[None, :] * z_c, mask=used[:, None] & (c < C)[None, :], other=0.0
            )
            x = tl.load(
                x_ptr + n * x_n + c.to(tl.int64)[:, None] * x_c + x_at[None, :],
                mask=(c < C)[:, None] & valid[None, :],
                other=0.0,
            )
            grid = product(z, x, grid, PRECISION, UPCAST)
        if HZ * WZ > 1:
            shifted = tl.minimum(q[None, :] + (i * WP + j)[:, None], BLOCK_Q - 1)
            # The products of unused taps are 0 * x, which is not 0 where x is not finite.
            grid = tl.where(used[:, None], tl.gather(grid, shifted, 1), 0.0)
            total += tl.sum(tl.reshape(grid, (KERNELS, TAPS, BLOCK_Q)), 1)
        else:
            total += tl.reshape(grid, (KERNELS, BLOCK_Q))
    return total, row, column


@triton.jit
def full_forward_kernel(
    z_ptr,  # (Nz, O*C, HZ, WZ), any strides
    x_ptr,  # (Nx, C, HX, WX), any strides
    scale_ptr,  # SCALES float32 numbers
    bias_ptr,  # BIASES float32 numbers
    out_ptr,  # (Nx, OUTPUTS, HO, WO) contiguous; with SPLIT > 1 float32 sums (SPLIT, Nx, OUTPUTS, HO, WO)
    scale_constant,
    bias_constant,
    nz,
    nx,
    z_n,
    z_c,
    z_y,
    z_x,
    x_n,
    x_c: tl.constexpr,  # a constant, so that its divisors are known and loads can be wide
    x_y,
    x_x,
    C: tl.constexpr,
    OUTPUTS,  # kernels that each search is correlated with: O, or Nz*O for all pairs
    PER_TEMPLATE,  # O
    ALL_PAIRS: tl.constexpr,
    HZ: tl.constexpr,
    WZ: tl.constexpr,
    HX: tl.constexpr,
    WX: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    SCALES: tl.constexpr,  # how many: 0, 1, or one per kernel of a template
    BIASES: tl.constexpr,
    VECTOR: tl.constexpr,  # pixels that one load may read where planes are contiguous and not padded; else 0
    SPLIT: tl.constexpr,  # parts of the channels
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    TEMPLATE_ROWS: tl.constexpr,  # rows of a template per G
    BAND: tl.constexpr,  # rows of the response per program
    KERNELS: tl.constexpr,  # kernels per program
    TAPS: tl.constexpr,  # power of 2, at least TEMPLATE_ROWS * WZ
    BLOCK_Q: tl.constexpr,  # power of 2, at least the pixels of BAND + TEMPLATE_ROWS - 1 rows of the padded search
    BLOCK_C: tl.constexpr,
):
    """One program owns a band of the response of KERNELS kernels on one search, over one part of the channels.

    On chip: G, (KERNELS * TAPS, BLOCK_Q) float32. Bytes: z, out, and x once per KERNELS kernels.
    """
    HO: tl.constexpr = HX + 2 * PH - HZ + 1
    WO: tl.constexpr = WX + 2 * PW - WZ + 1
    BANDS: tl.constexpr = (HO + BAND - 1) // BAND
    CHUNK: tl.constexpr = (C + SPLIT * BLOCK_C - 1) // (SPLIT * BLOCK_C) * BLOCK_C
    band = tl.program_id(1) % BANDS
    first = (tl.program_id(1) // BANDS) * KERNELS
    n = tl.program_id(0).to(tl.int64)
    part = tl.program_id(2)
    total, row, column = band_sums(
        z_ptr, x_ptr, nz, n, first, band, part * CHUNK, CHUNK, z_n, z_c, z_y, z_x, x_n, x_c, x_y, x_x, C, OUTPUTS,
        PER_TEMPLATE, ALL_PAIRS, HZ, WZ, HX, WX, PH, PW, VECTOR, PRECISION, UPCAST, TEMPLATE_ROWS, BAND, KERNELS, TAPS,
        BLOCK_Q, BLOCK_C,
    )  # fmt: skip
    kernel = first + tl.arange(0, KERNELS)
    out_y = band * BAND + row
    cell = (n * OUTPUTS + kernel)[:, None] * (HO * WO) + (out_y * WO + column)[None, :]
    mask = (kernel < OUTPUTS)[:, None] & ((row < BAND) & (out_y < HO) & (column < WO))[None, :]
    if SPLIT == 1:
        total = _scaled(total, kernel, scale_ptr, bias_ptr, scale_constant, bias_constant, PER_TEMPLATE, SCALES, BIASES)
    else:
        cell += part.to(tl.int64) * nx * OUTPUTS * (HO * WO)
    tl.store(out_ptr + cell, total.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _scaled(
    total,
    kernel,
    scale_ptr,
    bias_ptr,
    scale_constant,
    bias_constant,
    PER_TEMPLATE,
    SCALES: tl.constexpr,
    BIASES: tl.constexpr,
):
    """scale_constant * scale * total + bias_constant + bias; total: (kernels, cells); scale, bias: one, or one each."""
    total = total * scale_constant
    if SCALES == 1:
        total = total * tl.load(scale_ptr)
    if SCALES > 1:
        total = total * tl.load(scale_ptr + kernel % PER_TEMPLATE)[:, None]
    if BIASES == 1:
        total = total + tl.load(bias_ptr)
    if BIASES > 1:
        total = total + tl.load(bias_ptr + kernel % PER_TEMPLATE)[:, None]
    return total + bias_constant


@triton.jit
def add_parts_kernel(
    parts_ptr,  # (SPLIT, Nx, OUTPUTS, cells) float32 contiguous
    scale_ptr,
    bias_ptr,
    out_ptr,  # (Nx, OUTPUTS, cells) contiguous
    scale_constant,
    bias_constant,
    rows,  # Nx * OUTPUTS
    cells,
    PER_TEMPLATE,
    SCALES: tl.constexpr,
    BIASES: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Adds the sums over the parts of the channels, in their order, so that two runs give the same bits."""
    row = tl.program_id(0).to(tl.int64) + tl.zeros((1,), tl.int64)
    cell = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = row[:, None] * cells + cell[None, :]
    mask = (cell < cells)[None, :]
    total = tl.zeros((1, BLOCK), tl.float32)
    for part in range(SPLIT):
        total += tl.load(parts_ptr + part * tl.cast(rows, tl.int64) * cells + at, mask=mask, other=0.0)
    total = _scaled(total, row, scale_ptr, bias_ptr, scale_constant, bias_constant, PER_TEMPLATE, SCALES, BIASES)
    tl.store(out_ptr + at, total.to(out_ptr.dtype.element_ty), mask=mask)
