"""The joint correlation and loss's shipped calls."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from siamfast.kernels.launches import DTYPES, Call, zeros
from siamfast.kernels.xcorr.shipped import Case
from siamfast.kernels.xcorr_balanced_loss import launch

from siamfast.ops.balanced_logistic_loss import check_options

_FUSED = (
    Case("siamfc train", 8, (6, 6), (20, 20), 256),
    Case("seed train", 64, (6, 6), (22, 22), 256),
)


def calls() -> Iterator[Call]:
    """Rows of the table."""
    for dtype in ("fp32", "bf16"):
        for case in _FUSED:
            yield _fused(dtype, case)


def _fused(dtype: str, case: Case) -> Call:
    """Correlation, loss around the samples' centers, and both gradients."""
    size = DTYPES[dtype].itemsize
    z, x = (torch.Size(shape).numel() for shape in (case.z_shape, case.x_shape))

    def both() -> None:
        z, x = zeros(case.z_shape, dtype), zeros(case.x_shape, dtype)
        launch.forward(
            z=z, x=x, scale=None, bias=torch.zeros(1), scale_constant=1.0, bias_constant=0.0, pad_y=0, pad_x=0,
            labels=None, centers=torch.zeros(case.batch, 2), options=check_options(8, 16, 0, "l2", "half"),
            dx=x.clone(),
        )  # fmt: skip

    return Call(
        f"xcorr_balanced_loss, {case.name}, {dtype}", both, (2 * z + 2 * x) * size + 12 * case.batch * case.cells,
        6 * case.batch * case.channels * case.z[0] * case.z[1] * case.cells, rate=dtype,
        wide=case.x[0] * case.x[1] * size % 16 == 0,
    )  # fmt: skip
