"""The full correlation on the chip, for the kernel that joins it to the loss.

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

    Returns the sums (KERNELS, BLOCK_Q) and where they are: row of the band and column, (BLOCK_Q,) each. z: (Nz,
    O*C, HZ, WZ) and x: (Nx, C, HX, WX) of any strides; OUTPUTS: kernels that each search is correlated with;
    PER_TEMPLATE: O; VECTOR: pixels that one load may read where planes are contiguous and not padded, else 0;
    TEMPLATE_ROWS: rows of a template per G; TAPS: power of 2, at least TEMPLATE_ROWS * WZ; BLOCK_Q: power of 2, at
    least the pixels of BAND + TEMPLATE_ROWS - 1 rows of the padded search.
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
