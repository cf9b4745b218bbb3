"""Triton kernels of the full correlation's gradients with respect to z and x.

dG[(o, i, j), q] = grad[o, q - (i, j)] is built while loading; dx = z dG and dz = dG x^T are matrix products on tensor
cores. `gradients_kernel` does both for each piece of dG while it is on chip; the other two serve where one gradient is
wanted, and where there are more than 64 taps or products are exact.

Offsets within a search, its response, or all templates are int32: 64-bit ones take twice the registers.
"""

from __future__ import annotations

import triton
import triton.language as tl
from siamfast.kernels.tf32 import product


@triton.jit
def _zero():
    """0, which the compilers do not know. Added to a loop's end it keeps ptxas from unrolling the loop, which takes all
    registers and up to 48 bytes of stack (gradients_kernel, sm_80)."""
    return (tl.program_id(0) >= tl.num_programs(0)).to(tl.int32)


@triton.jit
def _grad_diagonals(grad_ptr, o, i, j, y, x, mask, HO: tl.constexpr, WO: tl.constexpr):
    """dG[(o, i, j), (y, x)] = grad[o, y - i, x - j], 0 outside, as (M, Q). grad_ptr: where the gradient of the search's
    response begins; o, i, j: (M,); y, x: (Q,) of the padded search."""
    gy, gx = y[None, :] - i[:, None], x[None, :] - j[:, None]
    inside = (gy >= 0) & (gy < HO) & (gx >= 0) & (gx < WO)
    return tl.load(grad_ptr + ((o[:, None] * HO + gy) * WO + gx), mask=mask & inside, other=0.0)


@triton.jit
def _store_template(dz_ptr, dz, m, c, C, OUTPUTS, HZ: tl.constexpr, WZ: tl.constexpr):
    """dz: (m, c), m = (o, i, j), of the template that starts at dz_ptr: (OUTPUTS*C, HZ, WZ) contiguous."""
    at = (m + m // (HZ * WZ) * (C - 1) * (HZ * WZ))[:, None] + c[None, :] * (HZ * WZ)
    used = (m < OUTPUTS * (HZ * WZ))[:, None] & (c < C)[None, :]
    tl.store(dz_ptr + at, dz.to(dz_ptr.dtype.element_ty), mask=used)


@triton.jit
def accumulate_gradients(
    grad_ptr, z, x_ptr, dx_ptr, dz, factor, n, o, i, j, used, c, x_n, x_c: tl.constexpr, x_y, x_x, dx_n,
    dx_c: tl.constexpr, dx_y, dx_x, C, OUTPUTS, HZ: tl.constexpr, WZ: tl.constexpr, HX: tl.constexpr, WX: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, FLAT: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Stores factor * (z dG) to dx and returns dz + dG x^T, for channels c of search n; z: (BLOCK_C, taps), dz: (taps,
    BLOCK_C). Arguments as for gradients_kernel."""
    HO: tl.constexpr = HX + 2 * PH - HZ + 1
    WO: tl.constexpr = WX + 2 * PW - WZ + 1
    for start in range(0, HX * WX + _zero(), BLOCK_Q):
        q = start + tl.arange(0, BLOCK_Q)
        y, x = q // WX, q % WX
        inside = (c < C)[:, None] & (q < HX * WX)[None, :]
        if FLAT:
            x_at = q
            dx_at = q
        else:
            x_at = y * x_y + x * x_x
            dx_at = y * dx_y + x * dx_x
        search = tl.load(x_ptr + n * x_n + (c[:, None] * x_c + x_at[None, :]), mask=inside, other=0.0)
        slope = _grad_diagonals(
            grad_ptr + n * OUTPUTS * (HO * WO), o, i, j, y + PH, x + PW, used[:, None] & (q < HX * WX)[None, :], HO, WO
        ).to(z.dtype)
        dz = product(slope, tl.trans(search), dz, PRECISION, UPCAST)
        # Transposed, so that dG is the factor that may stay in registers: TF32 on sm_90 reads the other one from
        # shared memory, with the taps side by side, and that is how z is stored there.
        dx = tl.zeros((BLOCK_Q, BLOCK_C), tl.float32)
        dx = product(tl.trans(slope), tl.trans(z), dx, PRECISION, UPCAST)
        at = c[:, None] * dx_c + dx_at[None, :]
        tl.store(dx_ptr + n * dx_n + at, (tl.trans(dx) * factor).to(dx_ptr.dtype.element_ty), mask=inside)
    return dz


@triton.jit
def gradients_kernel(
    grad_ptr,  # (Nx, OUTPUTS, HO, WO) contiguous
    z_ptr,  # (Nz, O*C, HZ, WZ), any strides
    x_ptr,  # (Nx, C, HX, WX), any strides
    scale_ptr,  # SCALES float32 numbers
    dz_ptr,  # (Nz or 1, OUTPUTS*C, HZ, WZ) contiguous: before `scale`
    dx_ptr,  # (Nx, C, HX, WX), any strides
    scale_constant,
    templates,  # Nz, or 1 for all pairs
    nx,
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
    C,
    OUTPUTS,
    PER_TEMPLATE,
    ALL_PAIRS: tl.constexpr,
    HZ: tl.constexpr,
    WZ: tl.constexpr,
    HX: tl.constexpr,
    WX: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    SCALES: tl.constexpr,
    FLAT: tl.constexpr,  # whether planes of x and of dx are contiguous
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,  # at least OUTPUTS * HZ * WZ
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """dx[c, q] = scale_constant * sum_m scale[o] z[m, c] dG[m, q];
    dz[m, c] = scale_constant * sum_nq dG[m, q] x[n, c, q]; m = (o, i, j).

    One program owns BLOCK_C channels of one template and of its searches. On chip: z, the sums of dz, and a piece of
    dG, which is multiplied by both. Bytes: x, z, dx and dz once; grad comes from the cache after its first use.
    """
    m = tl.arange(0, BLOCK_M)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    first = tl.program_id(0).to(tl.int64)
    o, i, j = m // (HZ * WZ), m // WZ % HZ, m % WZ
    used = m < OUTPUTS * (HZ * WZ)
    z_at = (o % PER_TEMPLATE) * C * z_c + i * z_y + j * z_x
    if ALL_PAIRS:
        z_at += o // PER_TEMPLATE * z_n
    else:
        z_ptr += first * z_n
    z = tl.load(z_ptr + (z_at[None, :] + c[:, None] * z_c), mask=used[None, :] & (c < C)[:, None], other=0.0)
    factor = scale_constant
    if SCALES == 1:
        factor = scale_constant * tl.load(scale_ptr)
    if SCALES > 1:
        weight = tl.load(scale_ptr + o % PER_TEMPLATE, mask=used, other=0.0)
        z = (z.to(tl.float32) * weight[None, :]).to(z.dtype)
    dz = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    for k in range(nx // templates):
        dz = accumulate_gradients(
            grad_ptr, z, x_ptr, dx_ptr, dz, factor, first + k * templates, o, i, j, used, c, x_n, x_c, x_y, x_x, dx_n,
            dx_c, dx_y, dx_x, C, OUTPUTS, HZ, WZ, HX, WX, PH, PW, FLAT, PRECISION, UPCAST, BLOCK_Q, BLOCK_C,
        )  # fmt: skip
    dz_ptr += first * OUTPUTS * C * (HZ * WZ)
    _store_template(dz_ptr, dz * scale_constant, m, c, C, OUTPUTS, HZ, WZ)


@triton.jit
def search_gradient_kernel(
    grad_ptr,  # (Nx, OUTPUTS, HO, WO) contiguous
    z_ptr,  # (Nz, O*C, HZ, WZ), any strides
    scale_ptr,  # SCALES float32 numbers
    dx_ptr,  # (Nx, C, HX, WX), any strides
    scale_constant,
    nz,
    z_n,
    z_c,
    z_y,
    z_x,
    dx_n,
    dx_c: tl.constexpr,
    dx_y,
    dx_x,
    C,
    OUTPUTS,
    PER_TEMPLATE,
    ALL_PAIRS: tl.constexpr,
    HZ: tl.constexpr,
    WZ: tl.constexpr,
    HX: tl.constexpr,
    WX: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    SCALES: tl.constexpr,
    FLAT: tl.constexpr,  # whether planes of dx are contiguous
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """dx[c, q] = scale_constant * sum_oij scale[o] z[o, c, i, j] dG[(o, i, j), q].

    One program owns BLOCK_C channels x BLOCK_Q pixels of a search, and keeps them on chip. Bytes: grad and z (from the
    cache after their first use), dx once.
    """
    HO: tl.constexpr = HX + 2 * PH - HZ + 1
    WO: tl.constexpr = WX + 2 * PW - WZ + 1
    q = tl.program_id(1) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    n = tl.program_id(0).to(tl.int64)
    y, x = q // WX, q % WX
    total = tl.zeros((BLOCK_C, BLOCK_Q), tl.float32)
    grad_ptr += n * OUTPUTS * (HO * WO)
    if not ALL_PAIRS:
        z_ptr += n % nz * z_n
    for start in range(0, OUTPUTS * (HZ * WZ) + _zero(), BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)
        o, i, j = m // (HZ * WZ), m // WZ % HZ, m % WZ
        used = m < OUTPUTS * (HZ * WZ)
        z_at = (o % PER_TEMPLATE) * C * z_c + i * z_y + j * z_x
        if ALL_PAIRS:
            z_at += o // PER_TEMPLATE * z_n
        z = tl.load(z_ptr + (z_at[None, :] + c[:, None] * z_c), mask=used[None, :] & (c < C)[:, None], other=0.0)
        slope = _grad_diagonals(grad_ptr, o, i, j, y + PH, x + PW, used[:, None], HO, WO)
        if SCALES > 1:
            weight = tl.load(scale_ptr + o % PER_TEMPLATE, mask=used, other=0.0)
            slope = (slope.to(tl.float32) * weight[:, None]).to(z.dtype)
        total = product(z, slope, total, PRECISION, UPCAST)
    total = total * scale_constant
    if SCALES == 1:
        total = total * tl.load(scale_ptr)
    if FLAT:
        pixel = q
    else:
        pixel = y * dx_y + x * dx_x
    at = c[:, None] * dx_c + pixel[None, :]
    tl.store(dx_ptr + n * dx_n + at, total.to(dx_ptr.dtype.element_ty), mask=(c < C)[:, None] & (q < HX * WX)[None, :])


@triton.jit
def template_gradient_kernel(
    grad_ptr,  # (Nx, OUTPUTS, HO, WO) contiguous
    x_ptr,  # (Nx, C, HX, WX), any strides
    dz_ptr,  # (Nz or 1, OUTPUTS*C, HZ, WZ) contiguous: before `scale`
    scale_constant,
    templates,  # Nz, or 1 for all pairs
    nx,
    x_n,
    x_c: tl.constexpr,
    x_y,
    x_x,
    C,
    OUTPUTS,
    HZ: tl.constexpr,
    WZ: tl.constexpr,
    HX: tl.constexpr,
    WX: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    FLAT: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """dz[o, c, i, j] = scale_constant * sum over the template's searches and q of dG[(o, i, j), q] x[c, q].

    One program owns BLOCK_M taps x BLOCK_C channels of one template. On chip: its piece of dz. Bytes: x once for each
    block of taps (one block for a template of 6x6), grad, dz.
    """
    HO: tl.constexpr = HX + 2 * PH - HZ + 1
    WO: tl.constexpr = WX + 2 * PW - WZ + 1
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    template = tl.program_id(0).to(tl.int64)
    o, i, j = m // (HZ * WZ), m // WZ % HZ, m % WZ
    used = m < OUTPUTS * (HZ * WZ)
    total = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    for k in range(nx // templates):
        n = template + k * templates
        for start in range(0, HX * WX + _zero(), BLOCK_Q):
            q = start + tl.arange(0, BLOCK_Q)
            y, x = q // WX, q % WX
            if FLAT:
                x_at = q
            else:
                x_at = y * x_y + x * x_x
            search = tl.load(
                x_ptr + n * x_n + (c[None, :] * x_c + x_at[:, None]),
                mask=(c < C)[None, :] & (q < HX * WX)[:, None],
                other=0.0,
            )
            slope = _grad_diagonals(
                grad_ptr + n * OUTPUTS * (HO * WO),
                o,
                i,
                j,
                y + PH,
                x + PW,
                used[:, None] & (q < HX * WX)[None, :],
                HO,
                WO,
            )
            total = product(slope, search, total, PRECISION, UPCAST)
    dz_ptr += template * OUTPUTS * C * (HZ * WZ)
    _store_template(dz_ptr, total * scale_constant, m, c, C, OUTPUTS, HZ, WZ)
