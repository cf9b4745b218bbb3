"""The `triton` backend of the correlations: arguments of the raw ops handed to the launchers in siamfast.kernels."""

from __future__ import annotations

import torch

from siamfast.ops.xcorr import eager
from siamfast.ops.xcorr.call import DepthwiseCall, XcorrCall
from siamfast.ops.xcorr.eager import layout


def _numbers(value: torch.Tensor | None) -> torch.Tensor | None:
    return None if value is None else value.reshape(-1).float().contiguous()


def full_forward(call: XcorrCall) -> torch.Tensor:  # (Nx, O or Nz*O, Ho, Wo)
    from siamfast.kernels import xcorr_launch

    z, x, scale, bias, (alpha, beta, ph, pw, all_pairs) = call
    outputs = call.outputs
    if x.shape[0] == 0 or outputs == 0:
        return x.new_empty(x.shape[0], outputs, *call.response_size)
    sizes = *z.shape[2:], x.shape[2] + 2 * ph, x.shape[3] + 2 * pw
    blocks = xcorr_launch.forward_blocks(*sizes, outputs, xcorr_launch.precision(x))
    if blocks is None:  # a search so wide that a row of G does not fit the chip
        return eager.full_forward(call)
    return xcorr_launch.launch_forward(z, x, _numbers(scale), _numbers(bias), alpha, beta, ph, pw, all_pairs, blocks)


def full_backward(
    grad: torch.Tensor,  # (Nx, O or Nz*O, Ho, Wo)
    call: XcorrCall,
    needs: list[bool],  # gradients wanted for z, x, scale, bias
) -> tuple[torch.Tensor, ...]:
    from siamfast.kernels import xcorr_launch

    z, x, scale, bias, (alpha, _, ph, pw, all_pairs) = call
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
    if need_x and dz is not nothing:
        xcorr_launch.launch_gradients(slope, z, x, _numbers(scale), dz, dx, alpha, ph, pw, all_pairs)
    elif need_x:
        xcorr_launch.launch_search_gradient(slope, z, _numbers(scale), dx, alpha, ph, pw, all_pairs)
    elif dz is not nothing:
        xcorr_launch.launch_template_gradient(slope, x, dz, alpha, ph, pw, all_pairs)
    if scale is not None and dz is not nothing:
        dz, found = eager.through_scale(dz, z, scale, per_template)
        dz, dscale = dz if need_z else nothing, found if need_scale else nothing
    return dz, dx, dscale, dbias


def depthwise_forward(call: DepthwiseCall) -> torch.Tensor:
    """-> (Nx, C, Ho, Wo)."""
    from siamfast.kernels import xcorr_depthwise

    z, x, ph, pw = call
    out = torch.empty(call.response_shape, dtype=x.dtype, device=x.device, memory_format=layout(x))
    if out.numel():
        xcorr_depthwise.launch_forward(z, x, out, ph, pw)
    return out


def depthwise_backward(
    grad: torch.Tensor,  # (Nx, C, Ho, Wo)
    call: DepthwiseCall,
    needs: list[bool],  # gradients wanted for z, x
) -> tuple[torch.Tensor, torch.Tensor]:
    from siamfast.kernels import xcorr_depthwise

    z, x, ph, pw = call
    need_z, need_x = needs
    if grad.numel() == 0:
        return eager.depthwise_backward(grad, call, needs)
    dz = torch.empty(z.shape, dtype=z.dtype, device=z.device) if need_z else None
    dx = torch.empty_like(x, memory_format=layout(x)) if need_x else None
    if dz is not None:
        xcorr_depthwise.launch_template_gradient(grad, x, dz, ph, pw)
    if dx is not None:
        xcorr_depthwise.launch_search_gradient(grad, z, dx, ph, pw)
    nothing = grad.new_empty(0)
    return nothing if dz is None else dz, nothing if dx is None else dx
