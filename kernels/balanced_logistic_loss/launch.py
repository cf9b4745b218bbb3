"""Launcher of the balanced logistic loss's Triton kernel: tiles, grid and configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from siamfast.kernels.balanced_logistic_loss.forward import balanced_logistic_loss_kernel
from siamfast.kernels.integers import cdiv, next_power_of_2

if TYPE_CHECKING:
    from siamfast.ops.balanced_logistic_loss.call import Options

# Cells of one program's tile, and how many tiles one program takes by itself: a second launch to add up the samples'
# losses costs more than to walk over this many, of which each is predicted to take 1.3 microseconds on an H100
# (predict.py; no GPU was at hand).
TILE = 4096
ALONE = 4
NUM_WARPS = 8
# Places in Options' tuples.
_L2, _IGNORE, _HALF_WEIGHTED, _NONE = 1, 1, 2, 2


def blocks(cells: int) -> dict[str, int]:
    """Samples and cells of a tile."""
    block = min(next_power_of_2(cells), TILE)
    return {"ROWS": TILE // block, "BLOCK": block}


def forward(
    scores: torch.Tensor,  # (N, 1, H, W) or (N, H, W) contiguous
    labels: torch.Tensor | None,  # (1 or N, H, W) float32
    centers: torch.Tensor | None,  # (N, 2) float32
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor]:  # the loss, () or (N,), and the slope, both float32
    samples, height, width = scores.shape[0], scores.shape[-2], scores.shape[-1]
    total = options.reduction != _NONE
    slope = torch.empty(scores.shape, dtype=torch.float32, device=scores.device)
    if scores.numel() == 0:
        return slope.new_zeros(() if total else (samples,)), slope
    sizes = blocks(height * width)
    all_tiles = cdiv(samples, sizes["ROWS"])
    own_labels = centers is not None or (labels is not None and labels.shape[0] > 1)
    # To count the batch's labels every program would read all of them.
    alone = all_tiles <= ALONE or (own_labels and options.balance != 0)
    tiles = all_tiles if alone else 1
    at_once = total and alone
    losses = slope.new_empty(1 if at_once else samples)
    with torch.cuda.device_of(scores):
        balanced_logistic_loss_kernel[(cdiv(all_tiles, tiles),)](
            scores, scores if labels is None else labels.contiguous(),
            scores if centers is None else centers.contiguous(), losses, slope, samples, tiles, options.stride,
            options.r_pos, max(options.r_neg, options.r_pos), -1.0 if options.neutral == _IGNORE else 0.5,
            options.neg_weight, 1.0 if options.neutral == _HALF_WEIGHTED else 0.0, options.factor(samples),
            HEIGHT=height, WIDTH=width, LABELS=0 if labels is None else 2 if labels.shape[0] > 1 else 1,
            CENTERS=centers is not None, L2=options.metric == _L2, BALANCE=options.balance, TOTAL=at_once, **sizes,
            num_warps=NUM_WARPS, enable_fp_fusion=False,
        )  # fmt: skip
    return (losses.sum() if total and not at_once else losses[0] if at_once else losses), slope
