"""augment's shipped calls."""

from __future__ import annotations

from collections.abc import Iterator

from siamfast.kernels.augment import launch
from siamfast.kernels.launches import DTYPES, Call, zeros

from siamfast.ops.augment import no_draws


def calls() -> Iterator[Call]:
    """Rows of the table."""
    for dtype in ("fp32", "bf16"):
        yield _augment(dtype)


def _augment(dtype: str) -> Call:
    """64 search crops of 255 pixels to 239, a step near 1 and a blur of sigma = 2 pixels."""
    planes, size, (rows, columns, high, wide) = 64 * 3, DTYPES[dtype].itemsize, (16, 32, 32, 64)
    flop = 2 * (planes * 15 * 8) * rows * wide * (high + columns)  # of 15 x 8 tiles and the pixels under them

    def augmented() -> None:
        draws = no_draws(64, (255, 255))
        draws[:, 4] = 2.0
        launch.forward(
            images=zeros((64, 3, 255, 255), "u8"),
            draws=draws,
            height=239,
            width=239,
            mean=[128.0] * 3,
            std=[60.0] * 3,
            dtype=DTYPES[dtype],
        )

    return Call(
        f"augment, 64 x 255 to 239, {dtype}", augmented, planes * (255 * 255 + size * 239 * 239), flop, rate="bf16"
    )
