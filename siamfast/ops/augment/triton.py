"""The `triton` backend of augment: the call handed to the launcher in siamfast.kernels."""

from __future__ import annotations

import torch

from siamfast.ops.augment.call import AugmentCall


def forward(call: AugmentCall) -> torch.Tensor:  # (N, 3, height, width)
    from siamfast.kernels import augment

    images, draws, options = call
    return augment.launch(images, draws, options.height, options.width, options.mean, options.std, options.dtype)
