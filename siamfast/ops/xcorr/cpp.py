"""The `cpp` backend of the correlations: arguments of the raw ops handed to siamfast._C."""

from __future__ import annotations

import torch

from siamfast.ops import dispatch
from siamfast.ops.xcorr import eager
from siamfast.ops.xcorr.eager import layout, response_size

_ABSENT = (0, 0, 0, 0, 0)


def _maps(t: torch.Tensor) -> tuple[int, int, int, int, int]:
    size, (sn, sc, sy, sx) = t.element_size(), t.stride()
    return t.data_ptr(), sn * size, sc * size, sy * size, sx * size


def _sizes(z: torch.Tensor, x: torch.Tensor, ph: int, pw: int) -> tuple[int, ...]:
    nz, maps, hz, wz = z.shape
    nx, channels, height, width = x.shape
    return nz, nx, channels, maps // channels, hz, wz, height, width, ph, pw, torch.get_num_threads()


def _one_template(z: torch.Tensor, channels: int) -> torch.Tensor:
    """z: (Nz, O*C, Hz, Wz) -> (1, Nz*O*C, Hz, Wz): for all pairs, every kernel belongs to one template."""
    return z.reshape(1, -1, *z.shape[2:])


def full_forward(
    z: torch.Tensor,  # (Nz, O*C, Hz, Wz)
    x: torch.Tensor,  # (Nx, C, Hx, Wx)
    scale: torch.Tensor | None,  # 1 or O elements
    bias: torch.Tensor | None,  # 1 or O elements
    alpha: float,
    beta: float,
    ph: int,
    pw: int,
    all_pairs: bool,
) -> torch.Tensor:  # (Nx, O or Nz*O, Ho, Wo)
    if z.shape[2:] == (1, 1):  # a plain matrix product
        return eager.full_forward(z, x, scale, bias, alpha, beta, ph, pw, all_pairs)
    per_template = z.shape[1] // x.shape[1]
    outputs = per_template * (z.shape[0] if all_pairs else 1)
    out = torch.empty((x.shape[0], outputs, *response_size(z, x, ph, pw)), dtype=torch.float32)
    if out.numel() == 0:
        return out.to(x.dtype)
    kernels = _one_template(z, x.shape[1]) if all_pairs else z
    # With a trained scale the bias comes after it.
    late = beta if scale is not None else 0.0
    dispatch.loaded_extension().xcorr_full(
        _sizes(kernels, x, ph, pw),
        dispatch.CODES[x.dtype],
        _maps(kernels),
        _maps(x),
        alpha,
        beta - late,
        out.data_ptr(),
    )
    if scale is not None or bias is not None or late:
        response = out.view(x.shape[0], -1, per_template, *out.shape[2:])
        if scale is not None:
            response.mul_(scale.reshape(-1, 1, 1))
        if bias is not None:
            response.add_(bias.reshape(-1, 1, 1))
        if late:
            response.add_(late)
    return out.to(x.dtype)


def full_backward(
    grad: torch.Tensor,  # (Nx, O or Nz*O, Ho, Wo)
    z: torch.Tensor,  # (Nz, O*C, Hz, Wz)
    x: torch.Tensor,  # (Nx, C, Hx, Wx)
    scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    alpha: float,
    beta: float,
    ph: int,
    pw: int,
    all_pairs: bool,
    needs: list[bool],  # gradients wanted for z, x, scale, bias
) -> tuple[torch.Tensor, ...]:
    if z.shape[2:] == (1, 1) or grad.numel() == 0:
        return eager.full_backward(grad, z, x, scale, bias, alpha, beta, ph, pw, all_pairs, needs)
    need_z, need_x, need_scale, need_bias = needs
    per_template = z.shape[1] // x.shape[1]
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
        dx = torch.empty_like(x, memory_format=layout(x))
    slope = (grad * alpha if alpha != 1.0 else grad).contiguous()
    # dz is wanted before `scale` came in: <it, z> is the gradient of `scale`, with no division by it.
    scaled = slope
    if scale is not None:
        scaled = (slope.view(slope.shape[0], -1, per_template, *slope.shape[2:]) * scale.reshape(-1, 1, 1)).float()
    kernels = _one_template(z, x.shape[1]) if all_pairs else z
    dispatch.loaded_extension().xcorr_full_backward(
        _sizes(kernels, x, ph, pw),
        dispatch.CODES[x.dtype],
        slope.data_ptr(),
        scaled.data_ptr(),
        _maps(kernels),
        _maps(x),
        dispatch.CODES[dz.dtype],
        _maps(_one_template(dz, x.shape[1]) if all_pairs else dz) if dz.numel() else _ABSENT,
        _maps(dx) if need_x else _ABSENT,
    )
    if scale is not None and dz.numel():
        dz, found = eager.through_scale(dz, z, scale, per_template)
        dz, dscale = dz if need_z else nothing, found if need_scale else nothing
    return dz, dx, dscale, dbias


def depthwise_forward(z: torch.Tensor, x: torch.Tensor, ph: int, pw: int) -> torch.Tensor:
    """z: (Nz, C, Hz, Wz), x: (Nx, C, Hx, Wx) -> (Nx, C, Ho, Wo)."""
    out = torch.empty(
        (*x.shape[:2], *response_size(z, x, ph, pw)), dtype=x.dtype, device=x.device, memory_format=layout(x)
    )
    if out.numel():
        dispatch.loaded_extension().xcorr_depthwise(
            _sizes(z, x, ph, pw), dispatch.CODES[x.dtype], _maps(z), _maps(x), _maps(out)
        )
    return out


def depthwise_backward(
    grad: torch.Tensor,  # (Nx, C, Ho, Wo)
    z: torch.Tensor,  # (Nz, C, Hz, Wz)
    x: torch.Tensor,  # (Nx, C, Hx, Wx)
    ph: int,
    pw: int,
    needs: list[bool],  # gradients wanted for z, x
) -> tuple[torch.Tensor, torch.Tensor]:
    need_z, need_x = needs
    if grad.numel() == 0:
        return eager.depthwise_backward(grad, z, x, ph, pw, needs)
    dz = torch.empty(z.shape, dtype=z.dtype) if need_z else grad.new_empty(0)
    dx = torch.empty_like(x, memory_format=layout(x)) if need_x else grad.new_empty(0)
    if need_z or need_x:
        dispatch.loaded_extension().xcorr_depthwise_backward(
            _sizes(z, x, ph, pw),
            dispatch.CODES[x.dtype],
            _maps(grad),
            _maps(z),
            _maps(x),
            _maps(dz) if need_z else _ABSENT,
            _maps(dx) if need_x else _ABSENT,
        )
    return dz, dx
