"""HDN's correlation on log-polar maps under its own name and argument order."""

from __future__ import annotations

import torch

from siamfast.ops.xcorr import xcorr_depthwise as _xcorr_depthwise


def xcorr_depthwise_circular(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """x: (N, C, Hx, Wx), wrapped along H and with repeated edges along W; kernel: (N, C, Hz, Wz)."""
    return _xcorr_depthwise(kernel, x, padding="circular-h")
