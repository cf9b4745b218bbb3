"""Launchers of correspondence_warp's backward Triton kernels: shapes, grids and configurations."""

from __future__ import annotations

from typing import Any

import torch
from siamfast.kernels import chips
from siamfast.kernels.correspondence_warp import backward as backward_kernels
from siamfast.kernels.correspondence_warp import top as top_kernels
from siamfast.kernels.correspondence_warp.task import Task, tiling
from siamfast.kernels.correspondence_warp.windows import SIDE
from siamfast.kernels.integers import cdiv, next_power_of_2
from siamfast.kernels.tf32 import EXACT

Config = dict[str, int]

# Channels of values whose products are no more than a few multiply-adds a logit: those of tensor cores want registers
# that the slopes have.
SMALL_SLOPES = 16


def backward_config(precision: str, chip: int, window: int, channels: int, by_key: bool, of_values: bool) -> Config:
    """window: its kind; channels: of values, whose slopes are what is sought, or of_values is False.

    A program computes the logits again for BLOCK_D channels of slopes, so many channels are few programs that do. The
    side it goes over comes in tiles of 32, or of 16 where products take their factors from registers. Distances in
    float64 (window 3) and products of many channels of values leave room for fewer slopes.
    """
    large = chips.multiplies_from_shared(chip)
    over = 32 if large else 16
    slopes = 256 if (large and precision == "ieee") or (chip == 90 and precision == "tf32") else 128
    if window == 3 or (channels > SMALL_SLOPES and not large):
        slopes = 64
    if of_values:
        over, slopes = 32, min(64 if large else 32, max(16, next_power_of_2(channels)))
    tiles = {"BLOCK_Q": over if by_key else SIDE * SIDE, "BLOCK_J": SIDE * SIDE if by_key else over}
    return {**tiles, "BLOCK_D": slopes, "num_warps": 8, "num_stages": 1}


def slopes_block(channels: int) -> Config:
    """The same, backward."""
    return {"KP": 16, "SMALL": channels <= SMALL_SLOPES}


def backward(
    task: Task,
    grads: tuple[torch.Tensor, ...],  # of values (N, K, Q), confidence, entropy, lse (N, Q), float32
    given: tuple[torch.Tensor, ...],  # forward's outputs, likewise flat
    needs: list[bool],  # query, keys, values, bias
) -> tuple[torch.Tensor, ...]:  # of query's rows (N, Q, CP), keys' (N, J, CP), values (N, K, J), bias (N, J), float32
    d_out, d_confidence, d_entropy, d_lse = grads
    out, confidence, entropy, lse, index = given
    certain = confidence * d_confidence
    shared = d_lse - (d_out * out).sum(1) - certain - d_entropy * entropy
    ends = torch.stack((lse, shared, d_entropy, certain), 1).contiguous()
    (n, cells, padded), (k, keys) = task.query.shape, task.values.shape[1:]
    size, chip = {"dtype": torch.float32, "device": task.query.device}, chips.chip_of(task.query.device)
    numbers = (d_out.contiguous(), ends, index.contiguous())
    slopes = "tf32" if task.precision != EXACT else EXACT
    common: dict[str, Any] = {"DETAILS": True, **slopes_block(k), "SLOPES": slopes}
    bias = task.keys if task.bias is None else task.bias
    rows = task.query, task.keys, task.values, bias, task.exempt
    d_query = torch.empty((n, cells, padded) if needs[0] else (0,), **size)
    d_keys = torch.empty((n, keys, padded), **size)
    d_values, d_bias = torch.empty((n, k, keys), **size), torch.empty((n, keys), **size)
    with torch.cuda.device_of(task.query):
        if needs[0]:
            (bounds, places, limit), constants, tiles = tiling(task, backward=True)
            config = backward_config(task.precision, chip, constants["WINDOW"], k, by_key=False, of_values=False)
            tiles = tiles if task.windowed else cdiv(cells, config["BLOCK_Q"])
            backward_kernels.warp_query_slopes_kernel[(tiles * n, cdiv(padded, config["BLOCK_D"]))](
                *rows, bounds, places, *numbers, d_query, limit, k, *task.sizes, **constants, **common, **config
            )
        (bounds, places, limit), constants, tiles = tiling(task, backward=True, by_key=True)
        for of_values, wanted, width in ((False, needs[1] or needs[3], padded), (True, needs[2], k)):
            if not wanted or not width:
                continue
            config = backward_config(task.precision, chip, constants["WINDOW"], k, by_key=True, of_values=of_values)
            blocks = tiles * task.sizes[4] if task.windowed else cdiv(keys, config["BLOCK_J"])
            backward_kernels.warp_key_slopes_kernel[(blocks * n, cdiv(width, config["BLOCK_D"]))](
                *rows, bounds, places, *numbers, d_keys, d_values, d_bias, limit, k, *task.sizes, OF_VALUES=of_values,
                **constants, **common, **config,
            )  # fmt: skip
    return d_query, d_keys, d_values, d_bias


def top_backward(
    task: Task,
    grads: tuple[torch.Tensor, ...],  # of values (N, K, Q), confidence, entropy (N, Q), float32
    chosen: torch.Tensor,  # (N, topk, Q) int64
    need_values: bool,
) -> tuple[torch.Tensor, ...]:  # as `backward`
    (n, cells, padded), (k, keys), topk = task.query.shape, task.values.shape[1:], chosen.shape[1]
    size = {"dtype": torch.float32, "device": task.query.device}
    d_query, d_keys = torch.empty((n, cells, padded), **size), torch.empty((n, keys, padded), **size)
    d_values, d_bias = torch.empty((n, k, keys), **size), torch.empty((n, keys), **size)
    weights, slopes = (torch.empty((n, cells, topk), **size) for _ in range(2))
    ends = torch.stack((grads[1], grads[2]), 1).contiguous()
    d_out, chosen = grads[0].contiguous(), chosen.contiguous()
    block = min(128, next_power_of_2(padded))
    with torch.cuda.device_of(task.query):
        top_kernels.warp_top_slopes_kernel[(cells * n,)](
            task.query, task.keys, task.values, task.keys if task.bias is None else task.bias, chosen, d_out, ends,
            weights, slopes, d_query, k, cells, keys, BIAS=task.bias is not None, CP=padded, KT=topk,
            PLACES=max(2, next_power_of_2(topk)), BLOCK_C=block, num_warps=4,
        )  # fmt: skip
        by_choice = chosen.transpose(1, 2).reshape(n, cells * topk)
        ordered, order = torch.sort(by_choice, dim=1, stable=True)
        begins = torch.searchsorted(ordered, torch.arange(keys + 1, device=chosen.device).expand(n, -1).contiguous())
        top_kernels.warp_top_keys_kernel[(keys * n,)](
            task.query, d_out, weights, slopes, order, begins, d_keys, d_values, d_bias, k, cells, keys,
            NEED_VALUES=need_values and k > 0, CP=padded, KT=topk, BLOCK_C=block,
            BLOCK_K=min(64, max(2, next_power_of_2(max(1, k)))), num_warps=4,
        )  # fmt: skip
    return d_query, d_keys, d_values, d_bias
