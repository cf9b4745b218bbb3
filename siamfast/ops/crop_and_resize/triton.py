"""The `triton` backend of crop_and_resize: passes the call to the launcher in siamfast.kernels."""

from __future__ import annotations

import torch

from siamfast.ops.crop_and_resize.call import CropCall
from siamfast.ops.crop_and_resize.windows import pixel_layout


def forward(call: CropCall) -> torch.Tensor:  # (M, C, height, width); without antialias
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
        layout=pixel_layout(image),
    )
