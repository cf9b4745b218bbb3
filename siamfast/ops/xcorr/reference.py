"""The specification of the cross-correlations: one plain convolution per pair of template and search."""

from __future__ import annotations

import torch
import torch.nn.functional as F

Padding = int | tuple[int, int] | str


def pad_search(x: torch.Tensor, padding: Padding) -> torch.Tensor:
    """x: (N, C, H, W) with its border added."""
    if padding == "circular-h":  # HDN: log-polar maps, angle along H wraps around, log-radius along W does not
        half_h, half_w = x.shape[2] // 2, x.shape[3] // 2
        return F.pad(F.pad(x, (0, 0, half_h, half_h), mode="circular"), (half_w, half_w, 0, 0), mode="replicate")
    assert not isinstance(padding, str)
    ph, pw = (padding, padding) if isinstance(padding, int) else padding
    return F.pad(x, (pw, pw, ph, ph))


def xcorr(
    z: torch.Tensor,  # (Nz, O*C, Hz, Wz)
    x: torch.Tensor,  # (Nx, C, Hx, Wx)
    *,
    scale: float | torch.Tensor = 1.0,
    bias: float | torch.Tensor | None = None,
    padding: Padding = 0,
    pairing: str = "cycle",
) -> torch.Tensor:  # (Nx, O or Nz*O, Ho, Wo)
    """response[n, o, y, x] = scale * sum_cij z[m, oC+c, i, j] x[n, c, y+i, x+j] + bias, m by `pairing`."""
    channels, (hz, wz) = x.shape[1], z.shape[2:]
    x = pad_search(x, padding)
    ho, wo = x.shape[2] - hz + 1, x.shape[3] - wz + 1
    if x.shape[0] == 0 or z.shape[0] == 0:
        outputs = z.shape[1] // channels * (z.shape[0] if pairing == "all" else 1)
        response = x.new_zeros(x.shape[0], outputs, ho, wo) + 0 * (x.sum() + z.sum())
    else:
        # Template m's kernels are rows m*O ... m*O + O-1. Contiguous, because PyTorch's float64 backward refuses
        # others.
        all_kernels = z.reshape(-1, channels, hz, wz).contiguous()
        per_template = z.shape[1] // channels
        rows = []
        for n in range(x.shape[0]):
            m = n % z.shape[0]
            kernels = all_kernels if pairing == "all" else all_kernels[m * per_template : (m + 1) * per_template]
            rows.append(F.conv2d(x[n : n + 1], kernels))
        response = torch.cat(rows)
    if isinstance(scale, torch.Tensor):
        scale = _per_map(scale, response)
    if isinstance(bias, torch.Tensor):
        bias = _per_map(bias, response)
    response = response * scale
    return response if bias is None else response + bias


def _per_map(value: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    """One number for all maps, or one per kernel of a template, repeated for every template."""
    value = value.reshape(-1)
    return value if value.numel() == 1 else value.repeat(response.shape[1] // value.numel()).view(-1, 1, 1)


def xcorr_depthwise(
    z: torch.Tensor,  # (Nz, C, Hz, Wz)
    x: torch.Tensor,  # (Nx, C, Hx, Wx)
    *,
    padding: Padding = 0,
) -> torch.Tensor:  # (Nx, C, Ho, Wo)
    """response[n, c, y, x] = sum_ij z[n mod Nz, c, i, j] x[n, c, y+i, x+j]."""
    channels, (hz, wz) = x.shape[1], z.shape[2:]
    x = pad_search(x, padding)
    if x.shape[0] == 0:
        empty = x.new_zeros(0, channels, x.shape[2] - hz + 1, x.shape[3] - wz + 1)
        return empty + 0 * (x.sum() + z.sum())
    rows = [
        F.conv2d(x[n : n + 1], z[n % z.shape[0]].unsqueeze(1).contiguous(), groups=channels) for n in range(x.shape[0])
    ]
    return torch.cat(rows)


def xcorr_pixelwise(
    z: torch.Tensor,  # (Nz, C, Hz, Wz)
    x: torch.Tensor,  # (Nx, C, Hx, Wx)
) -> torch.Tensor:  # (Nx, Hz*Wz, Hx, Wx)
    """response[n, i*Wz+j, y, x] = sum_c z[n mod Nz, c, i, j] x[n, c, y, x]."""
    templates = z.repeat(x.shape[0] // max(z.shape[0], 1), 1, 1, 1)
    return torch.einsum("ncp,nchw->nphw", templates.flatten(2), x)
