"""Calls of every launcher with Triton kernels at the shapes of performance.md's table.

Static builds compile them for chips that need not be here. Float16 is compiled like bfloat16 and left out. Tensors are
zeros wherever their values decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from siamfast.kernels.augment import shipped as augment
from siamfast.kernels.balanced_logistic_loss import shipped as balanced_logistic_loss
from siamfast.kernels.correspondence_warp import shipped as correspondence_warp
from siamfast.kernels.crop_and_resize import shipped as crop_and_resize
from siamfast.kernels.launches import Call
from siamfast.kernels.xcorr import shipped as xcorr

_OPS = (
    xcorr,
    balanced_logistic_loss,
    crop_and_resize,
    augment,
    correspondence_warp,
)


def shipped() -> Iterator[Call]:
    """Every row of the table."""
    for op in _OPS:
        yield from op.calls()
