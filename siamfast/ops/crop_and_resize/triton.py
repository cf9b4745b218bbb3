"""The `triton` backend of crop_and_resize: arguments of the raw op handed to the launcher in siamfast.kernels."""

from __future__ import annotations

import torch

from siamfast.ops.crop_and_resize.windows import pixel_layout


def forward(
    image: torch.Tensor,  # (N, C, H, W)
    windows: torch.Tensor,  # (M, 4) float64 on the CPU; N = 1 or M
    fill: torch.Tensor,  # (N, C)
    height: int,
    width: int,
    border: int,
    rule: int,
) -> torch.Tensor:  # (M, C, height, width)
    from siamfast.kernels.crop_and_resize import launch

    return launch(image, windows, fill, height, width, border, rule, pixel_layout(image))
