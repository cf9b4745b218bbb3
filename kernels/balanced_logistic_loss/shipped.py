"""The logistic loss's shipped calls: its labels made, made around centers, or given."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from siamfast.kernels.balanced_logistic_loss import launch
from siamfast.kernels.launches import DTYPES, Call, zeros

from siamfast.ops.balanced_logistic_loss import check_options


def calls() -> Iterator[Call]:
    """Rows of the table."""
    for dtype in ("fp32", "bf16"):
        yield from _loss(dtype)


def _loss(dtype: str) -> Iterator[Call]:
    """SiamFC's 17 x 17 responses of 64 samples; labels made around the middle, made around centers, or given."""
    shape = 64, 17, 17
    cells, size = 64 * 17 * 17, DTYPES[dtype].itemsize

    def loss(labels: bool, centers: bool, balance: str, metric: str) -> None:
        options = check_options(8, 16, 0, metric, "half", balance)
        launch.forward(
            scores=zeros(shape, dtype),
            labels=torch.zeros(shape) if labels else None,
            centers=torch.zeros(64, 2) if centers else None,
            options=options,
        )

    for name, labels, centers, balance in (
        ("shared", False, False, "sample"),
        ("centers, batch", False, True, "batch"),
        ("given", True, False, "sample"),
    ):
        yield Call(
            f"balanced_logistic_loss, {name}, {dtype}",
            lambda a=(labels, centers, balance, "l2" if centers else "l1"): loss(*a),
            cells * (size + 4 + 4 * labels), 20 * cells,
        )  # fmt: skip
