"""NanoTrack's correlations under their own names and argument order (version 3 pads the depthwise one by 1)."""

from __future__ import annotations

import torch

from siamfast.compat.pysot import xcorr_fast
from siamfast.ops.xcorr import xcorr_depthwise as _xcorr_depthwise
from siamfast.ops.xcorr import xcorr_pixelwise as _xcorr_pixelwise

__all__ = ["xcorr_depthwise", "xcorr_fast", "xcorr_pixelwise"]


def xcorr_depthwise(x: torch.Tensor, kernel: torch.Tensor, padding: int = 1) -> torch.Tensor:
    """x: (N, C, Hx, Wx), kernel: (N, C, Hz, Wz) -> (N, C, Hx + 2*padding - Hz + 1, ...); versions 1, 2: padding 0."""
    return _xcorr_depthwise(kernel, x, padding=padding)


def xcorr_pixelwise(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """x: (N, C, Hx, Wx), kernel: (N, C, Hz, Wz) -> (N, Hz*Wz, Hx, Wx)."""
    return _xcorr_pixelwise(kernel, x)
