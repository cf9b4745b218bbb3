"""Triton kernel of the full correlation, forward: the sums along the shifted diagonals of G.

G[o, (i, j), q] = sum_c z[o, c, i, j] x[c, q] is a matrix product, which cuBLAS does best; then
response[o, y, x] = sum_ij G[o, (i, j), (y + i, x + j)]. Gradients: backward.py.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def diagonal_sums_kernel(
    products_ptr,  # G: (maps of all searches, HZ*WZ, height*width) float32 contiguous
    scale_ptr,  # SCALES float32 numbers
    bias_ptr,  # BIASES float32 numbers
    out_ptr,  # (maps of all searches, ho, wo) contiguous
    scale_constant,
    bias_constant,
    height,  # of the search, without padding
    width,
    ho,
    wo,
    PER_TEMPLATE,  # O
    HZ: tl.constexpr,
    WZ: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    SCALES: tl.constexpr,  # how many: 0, 1, or one per kernel of a template
    BIASES: tl.constexpr,
    CELLS: tl.constexpr,  # template cells that are read at once
    BLOCK_Q: tl.constexpr,  # response pixels of a program
):
    """One program owns BLOCK_Q pixels of one map: scale_constant * scale * sum + bias_constant + bias.

    The cells are spread over threads and added at the end, so that all loads of a program are under way together; the
    pixels of a row are side by side in G. Bytes: of G what the response needs, mostly from L2; out.
    """
    blocks = (ho * wo + BLOCK_Q - 1) // BLOCK_Q
    row = (tl.program_id(0) // blocks).to(tl.int64)
    q = (tl.program_id(0) % blocks) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    y, x = q // wo - PH, q % wo - PW
    total = tl.zeros((CELLS, BLOCK_Q), tl.float32)
    for first in range(0, HZ * WZ, CELLS):
        cell = first + tl.arange(0, CELLS)
        i, j = cell // WZ, cell % WZ
        valid = (cell < HZ * WZ)[:, None] & (q < ho * wo)[None, :]
        if PH > 0 or PW > 0:
            from_y, from_x = y[None, :] + i[:, None], x[None, :] + j[:, None]
            valid &= (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
        plane = (row * (HZ * WZ) + cell) * (height * width)
        at = plane[:, None] + ((y * width + x)[None, :] + (i * width + j)[:, None])
        total += tl.load(products_ptr + at, mask=valid, other=0.0)
    response = tl.sum(total, 0) * scale_constant
    kernel = row % PER_TEMPLATE
    if SCALES > 0:
        response *= tl.load(scale_ptr + (kernel if SCALES > 1 else 0))
    if BIASES > 0:
        response += tl.load(bias_ptr + (kernel if BIASES > 1 else 0))
    response += bias_constant
    tl.store(out_ptr + row * (ho * wo) + q, response.to(out_ptr.dtype.element_ty), mask=q < ho * wo)
