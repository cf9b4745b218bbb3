"""The `triton` backend of the correlations: arguments of the raw ops handed to the launchers in siamfast.kernels."""

from __future__ import annotations

import torch

from siamfast.ops.xcorr import eager
from siamfast.ops.xcorr.eager import layout, response_size


def _numbers(value: torch.Tensor | None) -> torch.Tensor | None:
    return None if value is None else value.reshape(-1).float().contiguous()


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
    from siamfast.kernels import xcorr_launch

    outputs = z.shape[1] // x.shape[1] * (z.shape[0] if all_pairs else 1)
    if x.shape[0] == 0 or outputs == 0:
        return x.new_empty(x.shape[0], outputs, *response_size(z, x, ph, pw))
    sizes = *z.shape[2:], x.shape[2] + 2 * ph, x.shape[3] + 2 * pw
    blocks = xcorr_launch.forward_blocks(*sizes, outputs, xcorr_launch.precision(x))
    if blocks is None:  # a search so wide that a row of G does not fit the chip
        return eager.full_forward(z, x, scale, bias, alpha, beta, ph, pw, all_pairs)
    return xcorr_launch.launch_forward(z, x, _numbers(scale), _numbers(bias), alpha, beta, ph, pw, all_pairs, blocks)


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
    from siamfast.kernels import xcorr_launch

    need_z, need_x, need_scale, need_bias = needs
    nothing = grad.new_empty(0)
    dz = dx = dscale = dbias = nothing
    if grad.numel() == 0:
        return eager.full_backward(grad, z, x, scale, bias, alpha, beta, ph, pw, all_pairs, needs)
    per_template = z.shape[1] // x.shape[1]
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


def depthwise_forward(z: torch.Tensor, x: torch.Tensor, ph: int, pw: int) -> torch.Tensor:
    """z: (Nz, C, Hz, Wz), x: (Nx, C, Hx, Wx) -> (Nx, C, Ho, Wo)."""
    from siamfast.kernels import xcorr_depthwise

    shape = *x.shape[:2], *response_size(z, x, ph, pw)
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout(x))
    if out.numel():
        xcorr_depthwise.launch_forward(z, x, out, ph, pw)
    return out


def depthwise_backward(
    grad: torch.Tensor,  # (Nx, C, Ho, Wo)
    z: torch.Tensor,  # (Nz, C, Hz, Wz)
    x: torch.Tensor,  # (Nx, C, Hx, Wx)
    ph: int,
    pw: int,
    needs: list[bool],  # gradients wanted for z, x
) -> tuple[torch.Tensor, torch.Tensor]:
    from siamfast.kernels import xcorr_depthwise

    need_z, need_x = needs
    if grad.numel() == 0:
        return eager.depthwise_backward(grad, z, x, ph, pw, needs)
    dz = torch.empty(z.shape, dtype=z.dtype, device=z.device) if need_z else None
    dx = torch.empty_like(x, memory_format=layout(x)) if need_x else None
    if dz is not None:
        xcorr_depthwise.launch_template_gradient(grad, x, dz, ph, pw)
    if dx is not None:
        xcorr_depthwise.launch_search_gradient(grad, z, dx, ph, pw)
    nothing = grad.new_empty(0)
    return nothing if dz is None else dz, nothing if dx is None else dx
