"""Launcher of the balanced logistic loss's Triton kernel: tiles, grid and configuration."""

from __future__ import annotations

from typing import NamedTuple

import torch
from siamfast.kernels.balanced_logistic_loss.forward import balanced_logistic_loss_kernel
from siamfast.kernels.chips import MOST_REGISTERS
from siamfast.kernels.integers import cdiv, next_power_of_2

from siamfast.ops.balanced_logistic_loss.call import BALANCE, METRIC, NEUTRAL, REDUCTION, Options

# Cells of a tile. Where there are more tiles than one, each is a program, and a second launch adds up the samples'
# losses: on an H200 8 tiles take 9.0 microseconds so, forward and backward in a CUDA graph, where one program takes 7.5
# for one tile and 15.7 for four.
TILE = 4096
NUM_WARPS = 8


class LossNumbers(NamedTuple):
    """The kernel's numbers that follow from the options, in its order."""

    stride: float
    r_pos: float
    r_far: float
    between: float  # label of cells between r_pos and r_far; -1 weighs nothing
    neg_weight: float
    neutral: float  # weight of neutral cells
    factor: float  # of each sample's loss in the result


def loss_numbers(options: Options, samples: int) -> LossNumbers:
    neutral = NEUTRAL[options.neutral]
    return LossNumbers(
        stride=options.stride,
        r_pos=options.r_pos,
        r_far=max(options.r_neg, options.r_pos),
        between=-1.0 if neutral == "ignore" else 0.5,
        neg_weight=options.neg_weight,
        neutral=1.0 if neutral == "half-weighted" else 0.0,
        factor=options.factor(samples),
    )


def loss_modes(options: Options, labels: torch.Tensor | None, centers: torch.Tensor | None) -> dict[str, str | bool]:
    """The kernel's modes, by their constants' names."""
    return {
        "LABELS": "made" if labels is None else "own" if labels.shape[0] > 1 else "shared",
        "CENTERS": centers is not None,
        "L2": METRIC[options.metric] == "l2",
        "BALANCE": BALANCE[options.balance],
    }


def blocks(cells: int) -> dict[str, int]:
    """Samples and cells of a tile."""
    block = min(next_power_of_2(cells), TILE)
    return {"ROWS": TILE // block, "BLOCK": block}


def forward(
    *,
    scores: torch.Tensor,  # (N, 1, H, W) or (N, H, W) contiguous
    labels: torch.Tensor | None,  # (1 or N, H, W) float32
    centers: torch.Tensor | None,  # (N, 2) float32
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor]:  # the loss, () or (N,), and the slope, both float32
    samples, height, width = scores.shape[0], scores.shape[-2], scores.shape[-1]
    total = REDUCTION[options.reduction] != "none"
    slope = torch.empty(scores.shape, dtype=torch.float32, device=scores.device)
    if scores.numel() == 0:
        return slope.new_zeros(() if total else (samples,)), slope
    sizes = blocks(height * width)
    all_tiles = cdiv(samples, sizes["ROWS"])
    own_labels = centers is not None or (labels is not None and labels.shape[0] > 1)
    # To count the labels of the batch, each program would have to read all of them.
    alone = all_tiles == 1 or (own_labels and BALANCE[options.balance] != "sample")
    tiles = all_tiles if alone else 1
    at_once = total and alone
    losses = slope.new_empty(() if at_once else (samples,))
    with torch.cuda.device_of(scores):
        balanced_logistic_loss_kernel[(cdiv(all_tiles, tiles),)](
            scores,
            scores if labels is None else labels.contiguous(),
            scores if centers is None else centers.contiguous(),
            losses,
            slope,
            samples,
            tiles,
            *loss_numbers(options, samples),
            HEIGHT=height,
            WIDTH=width,
            **loss_modes(options, labels, centers),
            TOTAL=at_once,
            **sizes,
            num_warps=NUM_WARPS,
            maxnreg=MOST_REGISTERS,
            enable_fp_fusion=False,
        )
    return (losses.sum() if total and not at_once else losses), slope
