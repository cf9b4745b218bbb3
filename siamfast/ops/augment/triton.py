"""The `triton` backend of augment: passes the call to the launcher in siamfast.kernels."""

from __future__ import annotations

import torch

from siamfast.ops.augment.call import AugmentCall


def forward(call: AugmentCall) -> torch.Tensor:  # (N, 3, height, width)
    from siamfast.kernels.augment import launch

    return launch.forward(images=call.images, draws=call.draws, **call.options._asdict())
