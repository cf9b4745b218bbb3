"""SiamMask's depthwise correlation under its own name: `from siamfast.compat.siammask import conv2d_dw_group`."""

from __future__ import annotations

from siamfast.compat.pysot import xcorr_depthwise as conv2d_dw_group

__all__ = ["conv2d_dw_group"]
