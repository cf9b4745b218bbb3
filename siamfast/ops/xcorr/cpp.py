"""The `cpp` backend of the correlations: passes the raw ops' arguments to siamfast._C."""

from __future__ import annotations

import torch

from siamfast.ops import buffers, dispatch
from siamfast.ops.layout import layout_of
from siamfast.ops.xcorr import eager
from siamfast.ops.xcorr.call import DepthwiseCall, XcorrCall


def _one_template(z: torch.Tensor) -> torch.Tensor:
    """z: (Nz, O*C, Hz, Wz) -> (1, Nz*O*C, Hz, Wz): for all pairs, every kernel belongs to one template."""
    return z.reshape(1, -1, *z.shape[2:])


def full_forward(call: XcorrCall) -> torch.Tensor:  # (Nx, O or Nz*O, Ho, Wo)
    z, x, scale, bias, numbers = call
    if z.shape[2:] == (1, 1):  # a plain matrix product
        return eager.full_forward(call)
    out = torch.empty((x.shape[0], call.outputs, *call.response_size), dtype=torch.float32)
    if out.numel() == 0:
        return out.to(x.dtype)
    kernels = _one_template(z) if numbers.all_pairs else z
    # With a trained scale the bias is added after it.
    late = numbers.bias_constant if scale is not None else 0.0
    dispatch.loaded_extension().xcorr_full(
        buffers.of_tensor(kernels), buffers.of_tensor(x), out.data_ptr(), scale_constant=numbers.scale_constant,
        bias_constant=numbers.bias_constant - late, pad_y=numbers.pad_y, pad_x=numbers.pad_x,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    if scale is not None or bias is not None or late:
        response = out.view(x.shape[0], -1, call.per_template, *out.shape[2:])
        if scale is not None:
            response.mul_(scale.reshape(-1, 1, 1))
        if bias is not None:
            response.add_(bias.reshape(-1, 1, 1))
        if late:
            response.add_(late)
    return out.to(x.dtype)


def full_backward(
    grad: torch.Tensor,  # (Nx, O or Nz*O, Ho, Wo)
    call: XcorrCall,
    needs: list[bool],  # gradients needed for z, x, scale, bias
) -> tuple[torch.Tensor, ...]:
    z, x, scale, bias, numbers = call
    if z.shape[2:] == (1, 1) or grad.numel() == 0:
        return eager.full_backward(grad, call, needs)
    need_z, need_x, need_scale, need_bias = needs
    per_template = call.per_template
    nothing = grad.new_empty(0)
    dz = dx = dscale = dbias = nothing
    grad = grad.float()
    if need_bias and bias is not None:
        dbias = eager.bias_gradient(grad, bias, per_template)
    if not (need_z or need_x or need_scale):
        return dz, dx, dscale, dbias
    if need_z or need_scale:
        dz = torch.empty(z.shape, dtype=z.dtype if scale is None else torch.float32)
    if need_x:
        dx = torch.empty_like(x, memory_format=layout_of(x))
    slope = (grad * numbers.scale_constant if numbers.scale_constant != 1.0 else grad).contiguous()
    # Compute dz without `scale` first: <dz, z> is the gradient of `scale`, without dividing by it.
    scaled = slope
    if scale is not None:
        scaled = (slope.view(slope.shape[0], -1, per_template, *slope.shape[2:]) * scale.reshape(-1, 1, 1)).float()
    kernels = _one_template(z) if numbers.all_pairs else z
    dispatch.loaded_extension().xcorr_full_backward(
        grad_z=slope.data_ptr(),
        grad_x=scaled.data_ptr(),
        z=buffers.of_tensor(kernels),
        x=buffers.of_tensor(x),
        dz=buffers.of_tensor(_one_template(dz) if numbers.all_pairs else dz) if dz.numel() else buffers.ABSENT_MAPS,
        dx=buffers.of_tensor(dx) if need_x else buffers.ABSENT_MAPS,
        pad_y=numbers.pad_y,
        pad_x=numbers.pad_x,
        threads=torch.get_num_threads(),
    )
    if scale is not None and dz.numel():
        dz, scale_gradient = eager.through_scale(dz, z, scale, per_template)
        dz, dscale = dz if need_z else nothing, scale_gradient if need_scale else nothing
    return dz, dx, dscale, dbias


def depthwise_forward(call: DepthwiseCall) -> torch.Tensor:  # (Nx, C, Ho, Wo)
    z, x, pad_y, pad_x = call
    out = torch.empty(call.response_shape, dtype=x.dtype, device=x.device, memory_format=layout_of(x))
    if out.numel():
        dispatch.loaded_extension().xcorr_depthwise(
            buffers.of_tensor(z), buffers.of_tensor(x), buffers.of_tensor(out), pad_y, pad_x, torch.get_num_threads()
        )
    return out


def depthwise_backward(
    grad: torch.Tensor,  # (Nx, C, Ho, Wo)
    call: DepthwiseCall,
    needs: list[bool],  # gradients needed for z, x
) -> tuple[torch.Tensor, torch.Tensor]:
    z, x, pad_y, pad_x = call
    need_z, need_x = needs
    if grad.numel() == 0:
        return eager.depthwise_backward(grad, call, needs)
    dz = torch.empty(z.shape, dtype=z.dtype) if need_z else grad.new_empty(0)
    dx = torch.empty_like(x, memory_format=layout_of(x)) if need_x else grad.new_empty(0)
    if need_z or need_x:
        dispatch.loaded_extension().xcorr_depthwise_backward(
            grad=buffers.of_tensor(grad),
            z=buffers.of_tensor(z),
            x=buffers.of_tensor(x),
            dz=buffers.of_tensor(dz) if need_z else buffers.ABSENT_MAPS,
            dx=buffers.of_tensor(dx) if need_x else buffers.ABSENT_MAPS,
            pad_y=pad_y,
            pad_x=pad_x,
            threads=torch.get_num_threads(),
        )
    return dz, dx
