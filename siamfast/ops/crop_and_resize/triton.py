"""The `triton` backend of crop_and_resize: passes the call to the launcher in siamfast.kernels."""

from __future__ import annotations

import torch

from siamfast.kernels.integers import MOST, cdiv
from siamfast.ops.crop_and_resize.call import CropCall
from siamfast.ops.layout import layout_of


def serves(call: CropCall) -> bool:
    """A filter has many taps, and few crops need it; and a grid has a limit."""
    from siamfast.kernels.crop_and_resize import launch

    cells = call.options.height * call.options.width
    return not call.options.antialias and cells <= MOST and cdiv(cells, launch.BLOCK) * len(call.windows) <= MOST


def forward(call: CropCall) -> torch.Tensor:  # (M, C, height, width)
    from siamfast.kernels.crop_and_resize import launch

    image, windows, fill, options = call
    return launch.forward(
        image=image,
        windows=windows,
        fill=fill,
        out_height=options.height,
        out_width=options.width,
        border=options.border,
        rule=options.rule,
        layout=layout_of(image),
    )
