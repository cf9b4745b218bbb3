"""The `triton` backend of the correlations: passes the raw ops' arguments to the launchers in siamfast.kernels."""

from __future__ import annotations

from typing import Any

import torch

from siamfast.ops.xcorr import eager
from siamfast.ops.xcorr.call import DepthwiseCall, XcorrCall
from siamfast.ops.xcorr.eager import layout


def _numbers(value: torch.Tensor | None) -> torch.Tensor | None:
    return None if value is None else value.reshape(-1).float().contiguous()


def full_forward(call: XcorrCall) -> torch.Tensor:  # (Nx, O or Nz*O, Ho, Wo)
    from siamfast.kernels import tf32
    from siamfast.kernels.xcorr import launch

    z, x, scale, bias, numbers = call
    outputs = call.outputs
    if x.shape[0] == 0 or outputs == 0:
        return x.new_empty(x.shape[0], outputs, *call.response_size)
    sizes = *z.shape[2:], x.shape[2] + 2 * numbers.pad_y, x.shape[3] + 2 * numbers.pad_x
    blocks = launch.forward_blocks(*sizes, outputs, tf32.precision(x))
    if blocks is None:  # the search is so wide that a row of G does not fit on the chip
        return eager.full_forward(call)
    return launch.forward(
        z=z,
        x=x,
        scale=_numbers(scale),
        bias=_numbers(bias),
        scale_constant=numbers.scale_constant,
        bias_constant=numbers.bias_constant,
        pad_y=numbers.pad_y,
        pad_x=numbers.pad_x,
        all_pairs=numbers.all_pairs,
        blocks=blocks,
    )


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
    if grad.numel() == 0:
        return eager.full_backward(grad, call, needs)
    per_template = call.per_template
    slope = grad.contiguous()
    if need_bias and bias is not None:
        dbias = eager.bias_gradient(slope.float(), bias, per_template)
    if need_x:
        dx = torch.empty_like(x, memory_format=layout(x))
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


def depthwise_forward(call: DepthwiseCall) -> torch.Tensor:
    """-> (Nx, C, Ho, Wo)."""
    from siamfast.kernels.xcorr import launch_depthwise

    z, x, pad_y, pad_x = call
    out = torch.empty(call.response_shape, dtype=x.dtype, device=x.device, memory_format=layout(x))
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
    if grad.numel() == 0:
        return eager.depthwise_backward(grad, call, needs)
    dz = torch.empty(z.shape, dtype=z.dtype, device=z.device) if need_z else None
    dx = torch.empty_like(x, memory_format=layout(x)) if need_x else None
    if dz is not None:
        launch_depthwise.template_gradient(grad=grad, x=x, dz=dz, pad_y=pad_y, pad_x=pad_x)
    if dx is not None:
        launch_depthwise.search_gradient(grad=grad, z=z, dx=dx, pad_y=pad_y, pad_x=pad_x)
    nothing = grad.new_empty(0)
    return nothing if dz is None else dz, nothing if dx is None else dx
