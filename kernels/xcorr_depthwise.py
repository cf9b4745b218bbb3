"""Triton kernels of the depthwise correlation: forward, and one backward for both gradients; with their launchers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from siamfast.kernels.integers import cdiv, next_power_of_2

# Planes and cells of one forward program. A cell is a multiply-add and a load a tap, and the first cache serves the
# load: what counts is that many are on their way.
FORWARD_PLANES, FORWARD_CELLS, FORWARD_WARPS = 1, 512, 4
# Sums of one backward program that stay in registers (taps x cells), and the most cells of a step.
BACKWARD_SUMS, BACKWARD_CELLS, BACKWARD_WARPS = 4096, 128, 4


def backward_blocks(hz: int, wz: int) -> dict[str, int]:
    """TAPS and BLOCK_Q for a template of this size."""
    taps = next_power_of_2(hz * wz)
    return {"TAPS": taps, "BLOCK_Q": max(16, min(BACKWARD_CELLS, BACKWARD_SUMS // taps))}


@triton.jit
def depthwise_forward_kernel(
    z_ptr,  # (Nz, C, HZ, WZ), any strides
    x_ptr,  # (Nx, C, HX, WX), any strides
    out_ptr,  # (Nx, C, HO, WO), any strides
    planes,  # Nx * C
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
    BLOCK_P: tl.constexpr,
    BLOCK_Q: tl.constexpr,
):
    """out[p, y, x] = sum_ij z[p, i, j] x[p, y + i, x + j]. One program: BLOCK_Q cells of BLOCK_P planes.

    A pixel comes from memory once; the other HZ*WZ - 1 taps that meet it find it in the first cache.
    """
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    q = tl.program_id(1) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    n, c = (p // C).to(tl.int64), (p % C).to(tl.int64)
    y, x = q // WO, q % WO
    there = (p < planes)[:, None] & (q < HO * WO)[None, :]
    base = x_ptr + (n * x_n + c * x_c)[:, None]
    taps = z_ptr + (n % nz) * z_n + c * z_c
    total = tl.zeros((BLOCK_P, BLOCK_Q), tl.float32)
    for i in range(HZ):
        for j in tl.static_range(WZ):
            tap = tl.load(taps + i * z_y + j * z_x, mask=p < planes, other=0.0).to(tl.float32)
            mask = there
            if PH > 0 or PW > 0:
                row, column = y + i - PH, x + j - PW
                mask = there & ((row >= 0) & (row < HX) & (column >= 0) & (column < WX))[None, :]
            at = (y + i - PH) * x_y + (x + j - PW) * x_x
            total += tap[:, None] * tl.load(base + at[None, :], mask=mask, other=0.0).to(tl.float32)
    to = (n * out_n + c * out_c)[:, None] + (y * out_y + x * out_x)[None, :]
    tl.store(out_ptr + to, total.to(out_ptr.dtype.element_ty), mask=there)


@triton.jit
def depthwise_backward_kernel(
    grad_ptr,  # (Nx, C, HO, WO), any strides
    z_ptr,  # (Nz, C, HZ, WZ), any strides
    x_ptr,  # (Nx, C, HX, WX), any strides
    dz_ptr,  # (Nz, C, HZ, WZ) contiguous
    dx_ptr,  # (Nx, C, HX, WX), any strides
    C,
    nz,
    nx,
    grad_n,
    grad_c,
    grad_y,
    grad_x,
    z_n,
    z_c,
    z_y,
    z_x,
    x_n,
    x_c,
    x_y,
    x_x,
    dx_n,
    dx_c,
    dx_y,
    dx_x,
    HX,
    WX,
    HO,
    WO,
    PH: tl.constexpr,
    PW: tl.constexpr,
    HZ: tl.constexpr,
    WZ: tl.constexpr,
    NEED_Z: tl.constexpr,
    NEED_X: tl.constexpr,
    TAPS: tl.constexpr,  # power of 2 that holds HZ * WZ
    BLOCK_Q: tl.constexpr,
):
    """dz[i, j] = sum_q g[q] x[q + (i, j)], dx[q] = sum_ij z[i, j] g[q - (i, j)]. One program: a plane of one template
    and the same plane of all its searches, so that dz needs no second pass.

    On chip: a sum for each tap and each of BLOCK_Q cells, reduced once at the end. Bytes: grad, x, z, dx, dz once.
    """
    m = tl.program_id(0) // C
    c = (tl.program_id(0) % C).to(tl.int64)
    tap = tl.arange(0, TAPS)
    i, j = tap // WZ, tap % WZ
    used = tap < HZ * WZ
    sums = tl.zeros((TAPS, BLOCK_Q), tl.float32)
    for k in range(nx // nz):
        n = (m + k * nz).to(tl.int64)
        grad = grad_ptr + n * grad_n + c * grad_c
        if NEED_Z:
            plane = x_ptr + n * x_n + c * x_c
            for start in range(0, HO * WO, BLOCK_Q):
                q = start + tl.arange(0, BLOCK_Q)
                y, x = q // WO, q % WO
                slope = tl.load(grad + y * grad_y + x * grad_x, mask=q < HO * WO, other=0.0).to(tl.float32)
                row, column = y[None, :] + i[:, None] - PH, x[None, :] + j[:, None] - PW
                mask = used[:, None] & (q < HO * WO)[None, :]
                mask = mask & (row >= 0) & (row < HX) & (column >= 0) & (column < WX)
                pixels = tl.load(plane + row * x_y + column * x_x, mask=mask, other=0.0).to(tl.float32)
                sums += slope[None, :] * pixels
        if NEED_X:
            taps = z_ptr + m.to(tl.int64) * z_n + c * z_c
            for start in range(0, HX * WX, BLOCK_Q):
                q = start + tl.arange(0, BLOCK_Q)
                y, x = q // WX, q % WX
                total = tl.zeros((BLOCK_Q,), tl.float32)
                for a in range(HZ):
                    for b in tl.static_range(WZ):
                        row, column = y + PH - a, x + PW - b
                        mask = (q < HX * WX) & (row >= 0) & (row < HO) & (column >= 0) & (column < WO)
                        slope = tl.load(grad + row * grad_y + column * grad_x, mask=mask, other=0.0).to(tl.float32)
                        total += tl.load(taps + a * z_y + b * z_x).to(tl.float32) * slope
                at = n * dx_n + c * dx_c + y * dx_y + x * dx_x
                tl.store(dx_ptr + at, total.to(dx_ptr.dtype.element_ty), mask=q < HX * WX)
    if NEED_Z:
        found = tl.sum(sums, 1)
        to = dz_ptr + (m.to(tl.int64) * C + c) * (HZ * WZ) + tap
        tl.store(to, found.to(dz_ptr.dtype.element_ty), mask=used)


def launch_forward(z: torch.Tensor, x: torch.Tensor, out: torch.Tensor, ph: int, pw: int) -> None:
    """Fills out (Nx, C, HO, WO), which is not empty."""
    planes, (ho, wo) = x.shape[0] * x.shape[1], out.shape[2:]
    grid = (cdiv(planes, FORWARD_PLANES), cdiv(ho * wo, FORWARD_CELLS))
    with torch.cuda.device_of(x):
        depthwise_forward_kernel[grid](
            z, x, out, planes, x.shape[1], z.shape[0], *z.stride(), *x.stride(), *out.stride(), *x.shape[2:], ho, wo,
            PH=ph, PW=pw, HZ=z.shape[2], WZ=z.shape[3], BLOCK_P=FORWARD_PLANES, BLOCK_Q=FORWARD_CELLS,
            num_warps=FORWARD_WARPS,
        )  # fmt: skip


def launch_backward(
    grad: torch.Tensor, z: torch.Tensor, x: torch.Tensor, dz: torch.Tensor | None, dx: torch.Tensor | None,
    ph: int, pw: int,
) -> None:  # fmt: skip
    """Fills dz and dx where they are given."""
    nz, channels, hz, wz = z.shape
    like_x = x if dx is None else dx
    with torch.cuda.device_of(x):
        depthwise_backward_kernel[(nz * channels,)](
            grad, z, x, z if dz is None else dz, like_x, channels, nz, x.shape[0],
            *grad.stride(), *z.stride(), *x.stride(), *like_x.stride(), *x.shape[2:], *grad.shape[2:],
            PH=ph, PW=pw, HZ=hz, WZ=wz, NEED_Z=dz is not None, NEED_X=dx is not None,
            **backward_blocks(hz, wz), num_warps=BACKWARD_WARPS,
        )  # fmt: skip
