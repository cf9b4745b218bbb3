"""The `cpp` backend of augment: arguments of the raw op handed to siamfast._C."""

from __future__ import annotations

import torch

from siamfast.ops import dispatch


def forward(
    images: torch.Tensor,  # (N, 3, H, W) uint8
    draws: torch.Tensor,  # (N, 14) float32
    height: int,
    width: int,
    mean: list[float],
    std: list[float],
    dtype: torch.dtype,
) -> torch.Tensor:  # (N, 3, height, width)
    module = dispatch.loaded_extension()
    planes, pixels = images.stride(3) == 1, images.stride(1) == 1 and images.stride(3) == 3
    if not planes and not pixels:
        images = images.contiguous()
        planes = True
    count = images.shape[0]
    out = torch.empty((count, 3, height, width), dtype=dtype, memory_format=torch.channels_last)
    draws = draws.contiguous()
    module.augment(
        (count, images.shape[2], images.shape[3], height, width, torch.get_num_threads()),
        (images.stride(0), images.stride(1), images.stride(2), images.stride(3)) if planes
        else (images.stride(0), 1, images.stride(2), 3),
        images.data_ptr(), draws.data_ptr(), mean, std, dispatch.CODES[dtype], out.data_ptr(),
    )  # fmt: skip
    return out
