"""mmtracking's depthwise correlation under its own name: `from siamfast.compat.mmtracking import ...`."""

from __future__ import annotations

from siamfast.compat.pysot import xcorr_depthwise as depthwise_correlation

__all__ = ["depthwise_correlation"]
