"""pysot's correlations under their own names and argument order; SiamBAN, SiamCAR and video_analyst share them.

Replace `from pysot.core.xcorr import ...` by `from siamfast.compat.pysot import ...`.
"""

from __future__ import annotations

import torch

from siamfast.ops.xcorr import xcorr as _xcorr
from siamfast.ops.xcorr import xcorr_depthwise as _xcorr_depthwise


def xcorr_fast(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """x: (N, C, Hx, Wx), kernel: (N, O*C, Hz, Wz) -> (N, O, Ho, Wo), as SiamRPN's up-channel heads call it."""
    return _xcorr(kernel, x)


def xcorr_slow(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """The same sums as `xcorr_fast`; pysot has it as a loop over the batch."""
    return _xcorr(kernel, x)


def xcorr_depthwise(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """x: (N, C, Hx, Wx), kernel: (N, C, Hz, Wz) -> (N, C, Ho, Wo)."""
    return _xcorr_depthwise(kernel, x)
