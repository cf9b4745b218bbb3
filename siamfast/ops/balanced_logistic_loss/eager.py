"""The `torch` backend of the loss: plain PyTorch that also returns the derivative by each score."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F

from siamfast.ops.balanced_logistic_loss import reference
from siamfast.ops.balanced_logistic_loss.call import Options, sum_dtype
from siamfast.ops.lasting import make_lasting


def score_maps(scores: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W) or (N, H, W) -> (N, H, W)."""
    return scores.squeeze(1) if scores.dim() == 4 else scores


@lru_cache(maxsize=32)
def _shared_cells(
    shape: tuple[int, int], options: Options, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets and weights (1, H, W) that all samples share, cached: they are the same in every training step."""

    def make() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode(False):  # inference-mode tensors could not be used in later training
            labels = options.made_labels(shape, None, dtype, device)
            return labels.clamp_min(0), reference.cell_weights(labels, **options.weighing)

    return make_lasting(make, device)


def forward(
    scores: torch.Tensor, labels: torch.Tensor | None, centers: torch.Tensor | None, options: Options
) -> tuple[torch.Tensor, torch.Tensor]:
    maps = score_maps(scores)
    maps = maps.to(sum_dtype(scores.dtype))
    if labels is None and centers is None:
        make = _shared_cells.__wrapped__ if maps.is_cuda and torch.cuda.is_current_stream_capturing() else _shared_cells
        targets, weights = make((maps.shape[1], maps.shape[2]), options, maps.dtype, maps.device)
    else:
        if labels is None:
            labels = options.made_labels((maps.shape[1], maps.shape[2]), centers, maps.dtype, maps.device)
        targets, weights = labels.clamp_min(0), reference.cell_weights(labels, **options.weighing)
    idle = weights == 0
    # Not softplus(s) - s*y, nor PyTorch's (1 - y)*s - logsigmoid(s): for a cell that is already right, each cancels to
    # 0 on one side; here the small loss is a separate term.
    cells = F.softplus(-maps.abs()).add_(maps.clamp_min(0).sub_(maps * targets)).mul_(weights)
    losses = cells.masked_fill_(idle, 0).sum((1, 2))
    slope = torch.sigmoid(maps).sub_(targets).mul_(weights).masked_fill_(idle, 0).mul_(options.factor(len(maps)))
    return options.reduced(losses), slope.view(scores.shape)
