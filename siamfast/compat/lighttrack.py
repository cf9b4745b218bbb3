"""LightTrack's pixelwise correlations under their own names and argument order."""

from __future__ import annotations

import torch

from siamfast.ops.xcorr import xcorr_pixelwise as _xcorr_pixelwise


def pixel_corr(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """z: (N, C, Hz, Wz), x: (N, C, Hx, Wx) -> (N, Hz*Wz, Hx, Wx)."""
    return _xcorr_pixelwise(z, x)


def pixel_corr_mat(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The same sums as `pixel_corr`; LightTrack has it as one matrix product."""
    return _xcorr_pixelwise(z, x)
