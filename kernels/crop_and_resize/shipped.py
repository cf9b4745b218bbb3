"""crop_and_resize's shipped calls: every rule and border."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from siamfast.kernels.crop_and_resize import launch
from siamfast.kernels.launches import DTYPES, Call, zeros


def calls() -> Iterator[Call]:
    """Rows of the table."""
    for dtype in ("u8", "fp32", "bf16"):
        yield from _crop(dtype)


def _crop(dtype: str) -> Iterator[Call]:
    """Three color crops of 255 pixels, from windows of the same size; the image's mean is not the kernel's."""
    cells = 3 * 255 * 255 * 3

    def crop(rule: int, border: int) -> None:
        windows = torch.tensor(
            [[100.0, 200.0, 255.0, 255.0], [500.0, 60.0, 255.0, 255.0], [900.0, 400.0, 255.0, 255.0]]
        )
        launch.forward(
            image=zeros((1, 3, 720, 1280), dtype),
            windows=windows.double(),
            fill=torch.zeros(1, 3),
            out_height=255,
            out_width=255,
            border=border,
            rule=rule,
            layout=torch.contiguous_format,
        )

    for rule, border in ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0)):
        yield Call(
            f"crop_and_resize, rule {rule}, border {border}, {dtype}", lambda r=rule, b=border: crop(r, b),
            2 * cells * DTYPES[dtype].itemsize, 8 * cells,
        )  # fmt: skip
