"""Triton kernels of the depthwise correlation: forward and the template's gradient; the search's is forward too."""

# ruff: noqa: RUF005 - Triton knows the sum of tuples, not a star in one.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def depthwise_forward_kernel(
    z_ptr,  # (Nz, C, HZ, WZ), any strides
    x_ptr,  # (Nx, C, HX, WX), any strides
    out_ptr,  # (Nx, C, HO, WO), any strides
    C,
    nz,
    z_n,
    z_c,
    z_y,
    z_x,
    x_n,
    x_c,
    x_y,
    x_x,
    out_n,
    out_c,
    out_y,
    out_x,
    HX,
    WX,
    HO,
    WO,
    PH: tl.constexpr,
    PW: tl.constexpr,
    HZ: tl.constexpr,
    WZ: tl.constexpr,
    ROWS: tl.constexpr,  # cells per thread, one below another
    TAPS: tl.constexpr,  # rows of the template at once
    BLOCK_Q: tl.constexpr,
    TURNED: tl.constexpr = False,  # whether z is read from its last tap to the first
):
    """out[p, y, x] = sum_ij z[p, i, j] x[p, y + i, x + j]. One program owns BLOCK_Q columns of ROWS cells of a plane.

    A pixel of column x + j is multiplied, while in a register, by each tap of column j that the cells above it need:
    ROWS + TAPS - 1 loads and conversions serve ROWS * TAPS products. Bytes: z, x, out once.
    """
    q = tl.program_id(1) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    n, c = (tl.program_id(0) // C).to(tl.int64), (tl.program_id(0) % C).to(tl.int64)
    top, x = q // WO * ROWS, q % WO
    base, taps_at = x_ptr + n * x_n + c * x_c, z_ptr + (n % nz) * z_n + c * z_c
    nothing = tl.zeros((BLOCK_Q,), x_ptr.dtype.element_ty)
    totals = ()
    for _ in tl.static_range(ROWS):
        totals = totals + (tl.zeros((BLOCK_Q,), tl.float32),)
    for first in range(0, HZ, TAPS):
        for j in range(WZ):
            taps = ()
            for i in tl.static_range(TAPS):
                at = (HZ - 1 - first - i) * z_y + (WZ - 1 - j) * z_x if TURNED else (first + i) * z_y + j * z_x
                tap = tl.load(taps_at + at, mask=first + i < HZ, other=0.0)
                taps = taps + (tap.to(tl.float32),)
            column = x + j - PW
            inside = (top < HO) & (column >= 0) & (column < WX)
            for r in tl.static_range(ROWS + TAPS - 1):
                row = top + first + r - PH
                at = row * x_y + column * x_x
                pixel = tl.load(base + at, mask=inside & (row >= 0) & (row < HX), other=nothing).to(tl.float32)
                sums = ()
                for k in tl.static_range(ROWS):
                    if r >= k and r - k < TAPS:
                        if HZ % TAPS == 0:
                            sums = sums + (totals[k] + taps[r - k] * pixel,)
                        else:  # a tap beyond the template must not be multiplied by infinity
                            sums = sums + (totals[k] + tl.where(first + r - k < HZ, taps[r - k] * pixel, 0.0),)
                    else:
                        sums = sums + (totals[k],)
                totals = sums
    to = out_ptr + n * out_n + c * out_c + x * out_x
    for k in tl.static_range(ROWS):
        tl.store(to + (top + k) * out_y, totals[k].to(out_ptr.dtype.element_ty), mask=top + k < HO)


@triton.jit
def add_taps(
    sums,  # TAPS * COLUMNS of (BLOCK_Q,) float32
    slopes,  # ROWS of (BLOCK_Q,) float32: of cells (top + k, x)
    x_ptr,
    plane,
    top,
    x,
    down,  # row and column of the search under cell (0, 0) of the first tap
    right,
    x_y,
    x_x,
    HX,
    WX,
    HO,
    ROWS: tl.constexpr,
    EVEN: tl.constexpr,
    TAPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
):
    """sums + the products of these cells. A function of its own since Triton reads the body of each loop twice, of four
    nested loops sixteen times: with this in the kernel, 6 x 6 taps took half a minute to compile."""
    nothing = tl.zeros((BLOCK_Q,), x_ptr.dtype.element_ty)
    for j in tl.static_range(COLUMNS):
        column = x + j + right
        inside = (top < HO) & (column >= 0) & (column < WX)
        for r in tl.static_range(ROWS + TAPS - 1):
            row = top + r + down
            mask = inside & (row >= 0) & (row < HX)
            pixel = tl.load(x_ptr + (plane + row * x_y + column * x_x), mask=mask, other=nothing).to(tl.float32)
            grown = ()
            for tap in tl.static_range(TAPS * COLUMNS):
                if tap % COLUMNS == j and r >= tap // COLUMNS and r - tap // COLUMNS < ROWS:
                    term = slopes[r - tap // COLUMNS] * pixel
                    if not EVEN:  # a cell beyond the response must not be multiplied by infinity
                        term = tl.where(top + r - tap // COLUMNS < HO, term, 0.0)
                    grown = grown + (sums[tap] + term,)
                else:
                    grown = grown + (sums[tap],)
            sums = grown
    return sums


@triton.jit
def depthwise_template_gradient_kernel(
    grad_ptr,  # (Nx, C, HO, WO), any strides
    x_ptr,  # (Nx, C, HX, WX), any strides
    dz_ptr,  # (Nz, C, HZ, WZ) contiguous
    C,
    nz,
    nx,
    grad_n,
    grad_c,
    grad_y,
    grad_x,
    x_n,
    x_c,
    x_y,
    x_x,
    HX,
    WX,
    HO,
    WO,
    PH: tl.constexpr,
    PW: tl.constexpr,
    HZ: tl.constexpr,
    WZ: tl.constexpr,
    ROWS: tl.constexpr,  # cells per thread, one below another
    EVEN: tl.constexpr,  # whether HO is a multiple of ROWS
    TAPS: tl.constexpr,  # rows of the template at once
    COLUMNS: tl.constexpr,  # columns of the template at once
    BLOCK_Q: tl.constexpr,
):
    """dz[i, j] = sum_q g[q] x[q + (i, j)]. One program owns a plane of one template and that plane of all its
    searches, so that dz needs no second pass.

    On chip: a thread's sum for each of TAPS * COLUMNS taps, reduced once at the end; ROWS cells, one below another, and
    each pixel that they need are loaded and converted once for all taps. Bytes: grad, x, dz once.
    """
    m, c = tl.program_id(0) // C, (tl.program_id(0) % C).to(tl.int64)
    to = dz_ptr + tl.program_id(0).to(tl.int64) * (HZ * WZ)
    for first in range(0, HZ, TAPS):
        for left in range(0, WZ, COLUMNS):
            sums = ()
            for _ in tl.static_range(TAPS * COLUMNS):
                sums = sums + (tl.zeros((BLOCK_Q,), tl.float32),)
            for number in range(nx // nz):
                n = (m + number * nz).to(tl.int64)
                for start in range(0, tl.cdiv(HO, ROWS) * WO, BLOCK_Q):
                    q = start + tl.arange(0, BLOCK_Q)
                    top, x = q // WO * ROWS, q % WO
                    slopes = ()
                    for k in tl.static_range(ROWS):
                        at = n * grad_n + c * grad_c + (top + k) * grad_y + x * grad_x
                        slope = tl.load(grad_ptr + at, mask=top + k < HO, other=0.0)
                        slopes = slopes + (slope.to(tl.float32),)
                    plane = n * x_n + c * x_c
                    sums = add_taps(
                        sums, slopes, x_ptr, plane, top, x, first - PH, left - PW, x_y, x_x, HX, WX, HO,
                        ROWS, EVEN, TAPS, COLUMNS, BLOCK_Q,
                    )  # fmt: skip
            for tap in tl.static_range(TAPS * COLUMNS):
                into = (first + tap // COLUMNS) * WZ + left + tap % COLUMNS
                inside = (first + tap // COLUMNS < HZ) & (left + tap % COLUMNS < WZ)
                total = tl.sum(sums[tap], 0).to(dz_ptr.dtype.element_ty)
                tl.store(to + into, total, mask=inside)
