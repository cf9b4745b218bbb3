"""The `cpp` backend of augment: passes the call to siamfast._C."""

from __future__ import annotations

import torch

from siamfast.ops import buffers, dispatch
from siamfast.ops.augment.call import AugmentCall


def forward(call: AugmentCall) -> torch.Tensor:  # (N, 3, height, width)
    images, draws, options = call
    planes, pixels = images.stride(3) == 1, images.stride(1) == 1 and images.stride(3) == 3
    if not planes and not pixels:
        images = images.contiguous()
    size = images.shape[0], 3, options.height, options.width
    out = torch.empty(size, dtype=options.dtype, memory_format=torch.channels_last)
    draws = draws.contiguous()
    dispatch.loaded_extension().augment(
        buffers.of_tensor(images), buffers.of_tensor(out), draws=draws.data_ptr(), mean=options.mean, std=options.std,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    return out
