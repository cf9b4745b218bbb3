"""The `triton` backend of the correlations: passes the raw ops' arguments to the launchers in siamfast.kernels.

The full correlation's product G is cuBLAS's, by `torch.bmm`, and follows the settings of `torch.backends.cuda.matmul`:
on an H200 a kernel that kept G on the chip was slower at every size. A kernel makes the sums along G's diagonals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from siamfast.kernels.integers import MOST, offsets_fit
from siamfast.ops.layout import layout_of
from siamfast.ops.xcorr import eager
from siamfast.ops.xcorr.call import DepthwiseCall, XcorrCall

MOST_BYTES = 256 << 20  # of G at once; where it would take more, some searches at a time
MOST_SEARCH = 1 << 30  # of one search's G; where it takes more, PyTorch's convolution serves


def _numbers(value: torch.Tensor | None) -> torch.Tensor | None:
    return None if value is None else value.reshape(-1).float().contiguous()


def full_forward(call: XcorrCall) -> torch.Tensor:  # (Nx, O or Nz*O, Ho, Wo)
    from siamfast.kernels.xcorr import launch

    z, x, scale, bias, numbers = call
    (nx, channels, height, width), (hz, wz) = x.shape, z.shape[2:]
    maps = call.outputs
    if nx == 0 or maps == 0:
        return x.new_empty(nx, maps, *call.response_size)
    each = 4 * maps * hz * wz * height * width  # bytes of a search's G
    if each > MOST_SEARCH or math.prod(call.response_size) > MOST:
        from siamfast.ops.xcorr.autograd import by_reference  # it imports this file

        return by_reference(call._replace(z=z.float(), x=x.float())).to(x.dtype)
    rows, cells = eager.template_rows(z, channels), x.flatten(2)
    if numbers.all_pairs:
        rows = rows.reshape(1, -1, channels)
    if hz == wz == 1 and scale is None and bias is None and numbers[:4] == (1.0, 0.0, 0, 0):
        return _products(rows, cells).view(nx, maps, height, width).to(x.dtype)  # G is the response
    out = x.new_empty(nx, maps, *call.response_size)
    options: dict[str, Any] = {
        "template": (hz, wz),
        "search": (height, width),
        "scale": _numbers(scale),
        "bias": _numbers(bias),
        "scale_constant": numbers.scale_constant,
        "bias_constant": numbers.bias_constant,
        "pad_y": numbers.pad_y,
        "pad_x": numbers.pad_x,
        "per_template": call.per_template,
    }
    if nx * each <= MOST_BYTES:  # nearly always; saves the host three slices
        launch.diagonal_sums(products=_products(rows, cells), out=out, **options)
        return out
    for first, count in pieces(nx, rows.shape[0], max(1, MOST_BYTES // each)):
        begin, end = first % rows.shape[0], first + count
        products = _products(rows[begin : begin + count], cells[first:end])
        launch.diagonal_sums(products=products, out=out[first:end], **options)
    return out


def pieces(searches: int, templates: int, most: int) -> Iterator[tuple[int, int]]:
    """(first, count) of runs of at most `most` searches, each of whole rounds of the templates or within one.

    >>> list(pieces(6, 2, 5)), list(pieces(6, 3, 2))
    ([(0, 4), (4, 2)], [(0, 2), (2, 1), (3, 2), (5, 1)])
    """
    if most >= templates:
        step = most // templates * templates
        yield from ((first, min(step, searches - first)) for first in range(0, searches, step))
        return
    for begin in range(0, searches, templates):
        yield from ((begin + at, min(most, templates - at)) for at in range(0, templates, most))


def _products(rows: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """G: rows (templates, M, C) and cells (n, C, H*W), n a multiple of the templates -> (n, M, H*W) float32."""
    from siamfast.kernels.products import multiply

    if len(cells) > len(rows):  # one template is not copied, its stride becomes 0
        rows = rows.expand(len(cells) // len(rows), *rows.shape).reshape(len(cells), *rows.shape[1:])
    return multiply(rows, cells)


def full_backward(
    grad: torch.Tensor,  # (Nx, O or Nz*O, Ho, Wo)
    call: XcorrCall,
    needs: list[bool],  # gradients needed for z, x, scale, bias
) -> tuple[torch.Tensor, ...]:
    from siamfast.kernels.xcorr import launch_backward

    z, x, scale, bias, numbers = call
    need_z, need_x, need_scale, need_bias = needs
    nothing = grad.new_empty(0)
    dz = dx = dscale = dbias = nothing
    cells = max(x.shape[2] * x.shape[3], call.outputs * z.shape[2] * z.shape[3])
    fits = cells <= launch_backward.MOST_CELLS and x.shape[1] <= launch_backward.MOST_CHANNELS
    # Offsets within a search, its response or all templates are int32.
    most = max(len(x), z.numel(), math.prod(x.shape[1:]), math.prod(grad.shape[1:]))
    fits = fits and most <= MOST and offsets_fit(x, axes=3) and offsets_fit(z, axes=4)
    if grad.numel() == 0 or x.numel() == 0 or not fits:
        return eager.full_backward(grad, call, needs)
    per_template = call.per_template
    slope = grad.contiguous()
    if need_bias and bias is not None:
        dbias = eager.bias_gradient(slope.float(), bias, per_template)
    if need_x:
        dx = torch.empty_like(x, memory_format=layout_of(x))
    if need_z or need_scale:
        dz = torch.empty(z.shape, dtype=z.dtype if scale is None else torch.float32, device=z.device)
    options: dict[str, Any] = {
        "scale_constant": numbers.scale_constant,
        "pad_y": numbers.pad_y,
        "pad_x": numbers.pad_x,
        "all_pairs": numbers.all_pairs,
    }
    if need_x and dz is not nothing:
        launch_backward.both_gradients(grad=slope, z=z, x=x, scale=_numbers(scale), dz=dz, dx=dx, **options)
    elif need_x:
        launch_backward.search_gradient(grad=slope, z=z, scale=_numbers(scale), dx=dx, **options)
    elif dz is not nothing:
        launch_backward.template_gradient(grad=slope, x=x, dz=dz, **options)
    if scale is not None and dz is not nothing:
        dz, scale_gradient = eager.through_scale(dz, z, scale, per_template)
        dz, dscale = dz if need_z else nothing, scale_gradient if need_scale else nothing
    return dz, dx, dscale, dbias


def _fits(call: DepthwiseCall, other: torch.Tensor) -> bool:
    """Whether the kernels' grids and int32 offsets hold the call; other: the response, or its gradient."""
    from siamfast.kernels.xcorr import launch_depthwise

    (searches, channels, height, width), (_, _, ho, wo) = call.x.shape, other.shape
    fits = max(height * width, ho * wo) <= launch_depthwise.MOST_CELLS
    return fits and max(searches, len(call.z)) * channels <= MOST and offsets_fit(call.z, call.x, other)


def depthwise_forward(call: DepthwiseCall) -> torch.Tensor:
    """-> (Nx, C, Ho, Wo)."""
    from siamfast.kernels.xcorr import launch_depthwise

    z, x, pad_y, pad_x = call
    out = torch.empty(call.response_shape, dtype=x.dtype, device=x.device, memory_format=layout_of(x))
    if not _fits(call, out):
        return eager.depthwise_forward(call)
    if out.numel():
        launch_depthwise.forward(z=z, x=x, out=out, pad_y=pad_y, pad_x=pad_x)
    return out


def depthwise_backward(
    grad: torch.Tensor,  # (Nx, C, Ho, Wo)
    call: DepthwiseCall,
    needs: list[bool],  # gradients needed for z, x
) -> tuple[torch.Tensor, torch.Tensor]:
    from siamfast.kernels.xcorr import launch_depthwise

    z, x, pad_y, pad_x = call
    need_z, need_x = needs
    if grad.numel() == 0 or x.numel() == 0 or not _fits(call, grad):
        return eager.depthwise_backward(grad, call, needs)
    dz = torch.empty(z.shape, dtype=z.dtype, device=z.device) if need_z else None
    dx = torch.empty_like(x, memory_format=layout_of(x)) if need_x else None
    if dz is not None:
        launch_depthwise.template_gradient(grad=grad, x=x, dz=dz, pad_y=pad_y, pad_x=pad_x)
    if dx is not None:
        launch_depthwise.search_gradient(grad=grad, z=z, dx=dx, pad_y=pad_y, pad_x=pad_x)
    nothing = grad.new_empty(0)
    return nothing if dz is None else dz, nothing if dx is None else dx
