"""The `triton` backend of the logistic loss: passes the raw op's arguments to the launcher in siamfast.kernels."""

from __future__ import annotations

import torch

from siamfast.kernels.integers import MOST
from siamfast.ops.balanced_logistic_loss import eager
from siamfast.ops.balanced_logistic_loss.call import Options


def forward(
    scores: torch.Tensor,  # (N, 1, H, W) or (N, H, W)
    labels: torch.Tensor | None,  # (1 or N, H, W) float32
    centers: torch.Tensor | None,  # (N, 2) float32
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor]:
    from siamfast.kernels.balanced_logistic_loss import launch

    numbers = len(scores) * (1 if centers is None else 2)
    if max(numbers, scores.shape[-2] * scores.shape[-1]) > MOST:
        return eager.forward(scores, labels, centers, options)
    return launch.forward(scores=scores.contiguous(), labels=labels, centers=centers, options=options)
