"""The `triton` backend of augment: passes the call to the launcher in siamfast.kernels."""

from __future__ import annotations

import torch

from siamfast.kernels.integers import MOST, cdiv
from siamfast.ops.augment.call import AugmentCall


def serves(call: AugmentCall) -> bool:
    """Whether the kernels' grids hold the call."""
    from siamfast.kernels.augment import launch

    o = call.options
    tiles = cdiv(o.height, launch.ROWS) * cdiv(o.width, launch.FINE)  # the most, of one image
    return max(tiles, 3) * len(call.images) <= MOST


def forward(call: AugmentCall) -> torch.Tensor:  # (N, 3, height, width)
    from siamfast.kernels.augment import launch

    return launch.forward(images=call.images, draws=call.draws, **call.options._asdict())
