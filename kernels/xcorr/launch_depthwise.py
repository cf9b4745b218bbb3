"""Launchers of the depthwise correlation's Triton kernels: shapes, grids and configurations."""

from __future__ import annotations

import functools

import torch
from siamfast.kernels.chips import MOST_REGISTERS
from siamfast.kernels.integers import MOST_ACROSS, cdiv
from siamfast.kernels.xcorr.depthwise import depthwise_forward_kernel, depthwise_template_gradient_kernel

# Of a forward thread the cells, one below another, and of a program such columns: the pair that makes least work is
# taken. Then the rows of taps at once.
FORWARD_ROWS, FORWARD_COLUMNS, MOST_TAPS = (4, 5, 6, 8), (128, 64), 8
# The same for the template's gradient, and a thread's sums, one per tap: of a template that is taken at once, and of
# a larger one, in parts. With 56 sums in parts, or of 28 or 56 columns, up to 440 bytes a thread were on the stack.
TEMPLATE_ROWS, MOST_SUMS, MOST_SUMS_OF_PARTS = (5, 6, 4), 56, 28
# From so many planes on, each of which has a program, one warp adds up faster (on an H200 in half to three fifths of
# the time for 2,048 to 16,384 planes). Fewer planes were not timed; there two warps of a program wait less.
MANY_PLANES = 2048

# Cells of a plane that the second axis of the grids holds.
MOST_CELLS = MOST_ACROSS * min(FORWARD_COLUMNS)


@functools.lru_cache(maxsize=1024)
def forward_blocks(hz: int, ho: int, wo: int) -> dict[str, int]:
    """ROWS, TAPS and BLOCK_Q for a template of hz rows and a response of this size, and the warps (read only).

    The registers are named: else 8 bytes may be on the stack (of templates in parts on sm_100, of others on sm_120).
    """
    taps = cdiv(hz, cdiv(hz, MOST_TAPS))

    def work(rows: int, block: int) -> int:
        """Products and loads of all threads, including those of cells beyond the response."""
        return cdiv(cdiv(ho, rows) * wo, block) * block * (rows * taps + rows + taps - 1)

    rows, block = min(((r, q) for q in FORWARD_COLUMNS for r in FORWARD_ROWS), key=lambda pair: work(*pair))
    return {"ROWS": rows, "TAPS": taps, "BLOCK_Q": block, "num_warps": block // 32, "maxnreg": MOST_REGISTERS}


@functools.lru_cache(maxsize=1024)
def template_blocks(hz: int, wz: int, ho: int, many: bool) -> dict[str, int]:
    """ROWS, EVEN, TAPS, COLUMNS and BLOCK_Q for a template of this size and a response of ho rows, and the warps (read
    only); many: whether there are MANY_PLANES."""
    rows = min(TEMPLATE_ROWS, key=lambda r: cdiv(ho, r) * r)
    taps = cdiv(hz, cdiv(hz, MOST_TAPS))
    at_once = max(hz, wz) <= MOST_TAPS and hz * wz <= MOST_SUMS
    columns = wz if at_once else cdiv(wz, cdiv(wz, min(MOST_TAPS, MOST_SUMS_OF_PARTS // taps)))
    block = 32 if many else 64
    return {
        "ROWS": rows, "EVEN": ho % rows == 0, "TAPS": taps, "COLUMNS": columns,
        "BLOCK_Q": block, "num_warps": block // 32, "maxnreg": MOST_REGISTERS,
    }  # fmt: skip


def forward(*, z: torch.Tensor, x: torch.Tensor, out: torch.Tensor, pad_y: int, pad_x: int) -> None:
    """Fills out (Nx, C, HO, WO), which is not empty."""
    planes, (hz, wz), (ho, wo) = x.shape[0] * x.shape[1], z.shape[2:], out.shape[2:]
    blocks = forward_blocks(hz, ho, wo)
    grid = (planes, cdiv(cdiv(ho, blocks["ROWS"]) * wo, blocks["BLOCK_Q"]))
    with torch.cuda.device_of(x):
        depthwise_forward_kernel[grid](
            z, x, out, x.shape[1], z.shape[0], *z.stride(), *x.stride(), *out.stride(), *x.shape[2:], ho, wo,
            PH=pad_y, PW=pad_x, HZ=hz, WZ=wz, **blocks,
        )  # fmt: skip


def search_gradient(*, grad: torch.Tensor, z: torch.Tensor, dx: torch.Tensor, pad_y: int, pad_x: int) -> None:
    """Fills dx[q] = sum_ij z[i, j] g[q - (i, j)]: forward with the template turned around, on a wider border."""
    ho, wo = dx.shape[2:]
    (hz, wz), (z_n, z_c, z_y, z_x) = z.shape[2:], z.stride()
    blocks = forward_blocks(hz, ho, wo)
    grid = (dx.shape[0] * dx.shape[1], cdiv(cdiv(ho, blocks["ROWS"]) * wo, blocks["BLOCK_Q"]))
    with torch.cuda.device_of(dx):
        depthwise_forward_kernel[grid](
            z, grad, dx, dx.shape[1], z.shape[0], z_n, z_c, z_y, z_x, *grad.stride(), *dx.stride(),
            *grad.shape[2:], ho, wo, PH=hz - 1 - pad_y, PW=wz - 1 - pad_x, HZ=hz, WZ=wz, TURNED=True, **blocks,
        )  # fmt: skip


def template_gradient(*, grad: torch.Tensor, x: torch.Tensor, dz: torch.Tensor, pad_y: int, pad_x: int) -> None:
    """Fills dz[i, j] = sum_q g[q] x[q + (i, j)], added up over the searches of each template."""
    nz, channels, hz, wz = dz.shape
    with torch.cuda.device_of(x):
        depthwise_template_gradient_kernel[(nz * channels,)](
            grad, x, dz, channels, nz, x.shape[0], *grad.stride(), *x.stride(), *x.shape[2:], *grad.shape[2:],
            PH=pad_y, PW=pad_x, HZ=hz, WZ=wz, **template_blocks(hz, wz, grad.shape[2], nz * channels >= MANY_PLANES),
        )  # fmt: skip
