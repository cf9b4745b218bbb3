"""Triton kernels of the depthwise correlation: forward and the two gradients, with their launchers."""

# ruff: noqa: RUF005 - Triton knows the sum of tuples, not a star in one.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from siamfast.kernels.integers import cdiv

# Cells below one another of a forward thread, and such columns of a program, of which those are taken that make least
# work; and rows of taps at once.
FORWARD_ROWS, FORWARD_COLUMNS, MOST_TAPS = (4, 5, 6, 8), (128, 64), 8
# The same of the template's gradient, and a thread's sums, one a tap.
TEMPLATE_ROWS, TEMPLATE_COLUMNS, MOST_SUMS = (5, 6, 4), 64, 56


def forward_blocks(hz: int, ho: int, wo: int) -> dict[str, int]:
    """ROWS, TAPS and BLOCK_Q for a template of hz rows and a response of this size, and the warps."""
    taps = cdiv(hz, cdiv(hz, MOST_TAPS))

    def work(rows: int, block: int) -> int:
        """Products and loads of all threads, those of cells that are not there included."""
        return cdiv(cdiv(ho, rows) * wo, block) * block * (rows * taps + rows + taps - 1)

    rows, block = min(((r, q) for q in FORWARD_COLUMNS for r in FORWARD_ROWS), key=lambda pair: work(*pair))
    return {"ROWS": rows, "TAPS": taps, "BLOCK_Q": block, "num_warps": block // 32}


def template_blocks(hz: int, wz: int, ho: int) -> dict[str, int]:
    """ROWS, EVEN, TAPS, COLUMNS and BLOCK_Q for a template of this size and a response of ho rows, and the warps."""
    rows = min(TEMPLATE_ROWS, key=lambda r: cdiv(ho, r) * r)
    taps = cdiv(hz, cdiv(hz, MOST_TAPS))
    columns = cdiv(wz, cdiv(wz, max(1, MOST_SUMS // taps)))
    return {
        "ROWS": rows, "EVEN": ho % rows == 0, "TAPS": taps, "COLUMNS": columns,
        "BLOCK_Q": TEMPLATE_COLUMNS, "num_warps": TEMPLATE_COLUMNS // 32,
    }  # fmt: skip


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
    ROWS: tl.constexpr,  # cells below one another of a thread
    TAPS: tl.constexpr,  # rows of the template at once
    BLOCK_Q: tl.constexpr,
    TURNED: tl.constexpr = False,  # whether z is read from its last tap to its first
):
    """out[p, y, x] = sum_ij z[p, i, j] x[p, y + i, x + j]. One program: BLOCK_Q columns of ROWS cells of a plane.

    A pixel of column x + j meets every tap of column j that needs it for the ROWS cells above it while it is in a
    register: ROWS + TAPS - 1 loads and conversions serve ROWS * TAPS products. Bytes: z, x, out once.
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
                        else:  # a tap that is not there must not meet infinity
                            sums = sums + (totals[k] + tl.where(first + r - k < HZ, taps[r - k] * pixel, 0.0),)
                    else:
                        sums = sums + (totals[k],)
                totals = sums
    to = out_ptr + n * out_n + c * out_c + x * out_x
    for k in tl.static_range(ROWS):
        tl.store(to + (top + k) * out_y, totals[k].to(out_ptr.dtype.element_ty), mask=top + k < HO)


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
    ROWS: tl.constexpr,  # cells below one another of a thread
    EVEN: tl.constexpr,  # whether HO is a multiple of ROWS
    TAPS: tl.constexpr,  # rows of the template at once
    COLUMNS: tl.constexpr,  # columns of the template at once
    BLOCK_Q: tl.constexpr,
):
    """dz[i, j] = sum_q g[q] x[q + (i, j)]. One program: a plane of one template and the same plane of all its searches,
    so that dz needs no second pass.

    On chip: a thread's sum for each of TAPS * COLUMNS taps, reduced once at the end; ROWS cells below one another, and
    each pixel that they meet, are loaded and converted once for all of them. Bytes: grad, x, dz once.
    """
    nothing = tl.zeros((BLOCK_Q,), x_ptr.dtype.element_ty)
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
                    for j in tl.static_range(COLUMNS):
                        column = x + left + j - PW
                        inside = (top < HO) & (column >= 0) & (column < WX)
                        for r in tl.static_range(ROWS + TAPS - 1):
                            row = top + first + r - PH
                            at = n * x_n + c * x_c + row * x_y + column * x_x
                            mask = inside & (row >= 0) & (row < HX)
                            pixel = tl.load(x_ptr + at, mask=mask, other=nothing).to(tl.float32)
                            grown = ()
                            for tap in tl.static_range(TAPS * COLUMNS):
                                if tap % COLUMNS == j and r >= tap // COLUMNS and r - tap // COLUMNS < ROWS:
                                    term = slopes[r - tap // COLUMNS] * pixel
                                    if not EVEN:  # a cell that is not there must not meet infinity
                                        term = tl.where(top + r - tap // COLUMNS < HO, term, 0.0)
                                    grown = grown + (sums[tap] + term,)
                                else:
                                    grown = grown + (sums[tap],)
                            sums = grown
            for tap in tl.static_range(TAPS * COLUMNS):
                into = (first + tap // COLUMNS) * WZ + left + tap % COLUMNS
                there = (first + tap // COLUMNS < HZ) & (left + tap % COLUMNS < WZ)
                found = tl.sum(sums[tap], 0).to(dz_ptr.dtype.element_ty)
                tl.store(to + into, found, mask=there)


def launch_forward(z: torch.Tensor, x: torch.Tensor, out: torch.Tensor, ph: int, pw: int) -> None:
    """Fills out (Nx, C, HO, WO), which is not empty."""
    planes, (hz, wz), (ho, wo) = x.shape[0] * x.shape[1], z.shape[2:], out.shape[2:]
    blocks = forward_blocks(hz, ho, wo)
    grid = (planes, cdiv(cdiv(ho, blocks["ROWS"]) * wo, blocks["BLOCK_Q"]))
    with torch.cuda.device_of(x):
        depthwise_forward_kernel[grid](
            z, x, out, x.shape[1], z.shape[0], *z.stride(), *x.stride(), *out.stride(), *x.shape[2:], ho, wo,
            PH=ph, PW=pw, HZ=hz, WZ=wz, **blocks,
        )  # fmt: skip


def launch_search_gradient(grad: torch.Tensor, z: torch.Tensor, dx: torch.Tensor, ph: int, pw: int) -> None:
    """Fills dx[q] = sum_ij z[i, j] g[q - (i, j)]: forward with the template turned around, on a wider border."""
    ho, wo = dx.shape[2:]
    (hz, wz), (z_n, z_c, z_y, z_x) = z.shape[2:], z.stride()
    blocks = forward_blocks(hz, ho, wo)
    grid = (dx.shape[0] * dx.shape[1], cdiv(cdiv(ho, blocks["ROWS"]) * wo, blocks["BLOCK_Q"]))
    with torch.cuda.device_of(dx):
        depthwise_forward_kernel[grid](
            z, grad, dx, dx.shape[1], z.shape[0], z_n, z_c, z_y, z_x, *grad.stride(), *dx.stride(),
            *grad.shape[2:], ho, wo, PH=hz - 1 - ph, PW=wz - 1 - pw, HZ=hz, WZ=wz, TURNED=True, **blocks,
        )  # fmt: skip


def launch_template_gradient(grad: torch.Tensor, x: torch.Tensor, dz: torch.Tensor, ph: int, pw: int) -> None:
    """Fills dz."""
    nz, channels, hz, wz = dz.shape
    with torch.cuda.device_of(x):
        depthwise_template_gradient_kernel[(nz * channels,)](
            grad, x, dz, channels, nz, x.shape[0], *grad.stride(), *x.stride(), *x.shape[2:], *grad.shape[2:],
            PH=ph, PW=pw, HZ=hz, WZ=wz, **template_blocks(hz, wz, grad.shape[2]),
        )  # fmt: skip
