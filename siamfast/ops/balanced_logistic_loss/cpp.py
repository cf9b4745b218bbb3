"""The `cpp` backend of the logistic loss: passes the raw op's arguments to siamfast._C."""

from __future__ import annotations

from typing import NamedTuple

import torch

from siamfast.ops import buffers, dispatch
from siamfast.ops.balanced_logistic_loss.call import Options, Reduction


class LossMaps(NamedTuple):
    """As in csrc/balanced_logistic_loss/loss.h: addresses, 0 for none, and the scores' dtype."""

    samples: int
    height: int
    width: int
    dtype: int
    scores: int
    labels: int
    one_map: bool
    centers: int
    losses: int
    slope: int


def forward(
    scores: torch.Tensor,  # (N, 1, H, W) or (N, H, W)
    labels: torch.Tensor | None,  # (1 or N, H, W) float32
    centers: torch.Tensor | None,  # (N, 2) float32
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor]:
    samples, height, width = scores.shape[0], scores.shape[-2], scores.shape[-1]
    losses = torch.empty(() if options.reduction != Reduction.NONE else (samples,), dtype=torch.float32)
    slope = torch.empty(scores.shape, dtype=torch.float32)
    scores = scores.contiguous()
    labels = None if labels is None else labels.contiguous()
    centers = None if centers is None else centers.contiguous()
    maps = LossMaps(
        samples=samples, height=height, width=width, dtype=dispatch.CODES[scores.dtype], scores=scores.data_ptr(),
        labels=buffers.address(labels), one_map=labels is not None and labels.shape[0] == 1,
        centers=buffers.address(centers), losses=losses.data_ptr(), slope=slope.data_ptr(),
    )  # fmt: skip
    dispatch.loaded_extension().balanced_logistic_loss(options, maps, torch.get_num_threads())
    return losses, slope
