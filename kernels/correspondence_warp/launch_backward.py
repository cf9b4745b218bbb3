"""Launchers of correspondence_warp's backward Triton kernels: shapes, grids and configurations."""

from __future__ import annotations

from typing import Any

import torch
from siamfast.kernels import chips
from siamfast.kernels.chips import MOST_REGISTERS
from siamfast.kernels.correspondence_warp import launch_dense
from siamfast.kernels.correspondence_warp.backward import warp_key_slopes_kernel, warp_query_slopes_kernel
from siamfast.kernels.correspondence_warp.ends import warp_ends_kernel
from siamfast.kernels.correspondence_warp.task import Ends, Slopes, Task, windows_and_constants
from siamfast.kernels.correspondence_warp.top import warp_top_keys_kernel, warp_top_slopes_kernel
from siamfast.kernels.correspondence_warp.windows import SIDE
from siamfast.kernels.integers import cdiv, next_power_of_2
from siamfast.kernels.tf32 import EXACT

from siamfast.ops.correspondence_warp.call import Gradients, Outputs

Config = dict[str, int]

# Up to so many channels of values, products are a few multiply-adds per logit; on tensor cores they would need the
# registers of the slopes.
SMALL_SLOPES = 16
ENDS = {"BLOCK": 64, "BLOCK_K": 16, "num_warps": 4}
# Of a key with a top k, that are read at once; where there are as many queries as keys, a key has k of them.
CHOICES = 8
LEAST_SLOPE = 1e-30  # of a sample's largest: its units are a divisor
LEAST_SLOPES = 32  # channels at once; with 16, ptxas puts 56 bytes on the stack for a second block (sm_86, sm_89)


def backward_config(
    precision: str, chip: int, window: str, padded: int, whole: bool, channels: int, by_key: bool
) -> Config:
    """Of the slopes of rows. window: its kind; padded: channels of a row; whole: whether it is one block; channels: of
    the values.

    A program recomputes the logits for BLOCK_D channels of slopes, so more channels mean fewer programs that do. The
    grid it goes over comes in tiles of 32 with 8 warps, or of 16: with four warps, where products read their factors
    from registers or are exact, of three factors, and for whole rows with products of values. Ranks leave room for
    fewer slopes.

    Logits of whole rows are divided between the warps as the slopes are: on sm_80 and sm_120 by columns where those are
    more than the 64 rows, and then each warp has all logits; else by rows, of which more than four warps have each
    twice.
    """
    large = chips.multiplies_from_shared(chip)
    if window == "ranks":
        slopes = 64 if large else 32
    elif precision == EXACT:
        slopes = 128 if chip // 10 == 10 else 64
    elif large:
        # On sm_90 256 leave 8 to 24 bytes no register beside products of values.
        few = chip // 10 == 9 and channels > SMALL_SLOPES
        slopes = 256 if not few and (precision == "ieee" or chip // 10 == 9) else 128
    else:
        slopes = 64 if whole else 128
    slopes = min(slopes, max(LEAST_SLOPES, next_power_of_2(padded)))
    by_distance = window in ("square", "circle")
    if chip // 10 == 9 and precision == "ieee" and by_distance and not whole and channels <= SMALL_SLOPES:
        # Fewer slopes, of more cells at once: on an H200 with 512 channels 963 us for 1,158 with the numbers below.
        # Products of values would put 16 to 112 bytes on the stack.
        tile = {"BLOCK_Q": SIDE * SIDE, "BLOCK_J": SIDE * SIDE, "BLOCK_D": 128}
        return {**tile, "num_warps": 8, "num_stages": 3, "maxnreg": MOST_REGISTERS}
    warps = 8 if chip // 10 == 10 or slopes > SIDE * SIDE else 4
    over = 32 if large and precision != EXACT and warps == 8 and not (whole and channels > SMALL_SLOPES) else 16
    # Two blocks of 8 warps on a multiprocessor leave 128 registers a thread, where nothing else takes more: addresses
    # of rows whose length is no power of 2 do, unless (sm_100) the tiles are smaller.
    two = window != "ranks" and channels <= SMALL_SLOPES
    known = padded == next_power_of_2(padded)
    if chip // 10 == 10:
        two &= not by_key
        over = 16 if two and not known and slopes > 128 else over
    else:
        two &= chip < 90 and precision == "ieee" and warps == 8 and known
    return {
        "BLOCK_Q": over if by_key else SIDE * SIDE,
        "BLOCK_J": SIDE * SIDE if by_key else over,
        "BLOCK_D": slopes,
        "num_warps": warps,
        # With one stage and 8 warps on sm_90, ptxas 12.8 (Triton 3.6 to 3.7) loses half of the sum that makes a
        # descriptor: a product then reads shared memory anywhere. kernels/sass_races.py looks for such code.
        "num_stages": 2 if chip // 10 == 9 and warps == 8 else 1,
        "maxnreg": 128 if two else MOST_REGISTERS,
    }


def values_config(chip: int, window: str, channels: int) -> Config:
    """Of the slopes of the values."""
    large = chips.multiplies_from_shared(chip)
    most = 64 if large and window != "ranks" else 32
    slopes = min(most, max(16, next_power_of_2(channels)))
    return {
        "BLOCK_Q": 32 if window != "ranks" and slopes <= most // 2 else 16,
        "BLOCK_J": SIDE * SIDE,
        "BLOCK_D": slopes,
        "num_warps": 8 if chip // 10 == 10 else 4,
        "num_stages": 1,
        "maxnreg": MOST_REGISTERS,
    }


def slopes_block(channels: int) -> Config:
    """KP, channels of values at once, and whether they are multiplied one by one."""
    return {"KP": 16, "SMALL": channels <= SMALL_SLOPES}


def ends_of(task: Task, *, grads: Gradients, outputs: Outputs) -> Ends:
    """grads: of the outputs, float32; outputs: forward's. All contiguous and flat over the grid: values (N, K, Q), the
    rest (N, Q)."""
    (n, k, cells), like = grads.values.shape, {"dtype": torch.float32, "device": task.query.device}
    numbers, units = torch.empty((n, 4, cells), **like), None
    largest = numbers
    if launch_dense.needs_units(task):
        units = torch.full((n,), LEAST_SLOPE / launch_dense.LARGEST, **like)
        largest = torch.linalg.vector_norm(task.values, float("inf"), 2)
    with torch.cuda.device_of(task.query):
        warp_ends_kernel[(cdiv(cells, ENDS["BLOCK"]) * n,)](
            grads.values, outputs.values, outputs.lse, outputs.confidence, outputs.entropy, grads.lse,
            grads.confidence, grads.entropy, largest, numbers, numbers if units is None else units.view(torch.int32),
            cells, k, UNITS=units is not None, LARGEST=launch_dense.LARGEST, **ENDS,
        )  # fmt: skip
    return Ends(numbers, units)


def backward(task: Task, *, grad: torch.Tensor, ends: Ends, index: torch.Tensor, needs: list[bool]) -> Slopes:
    """grad: (N, K, Q) float32 contiguous, of the values; index: (N, Q) int64 contiguous, each query's best key.

    needs: of query, keys, values, bias; a slope that is not needed is not filled, or empty.
    """
    (n, cells, padded), (k, keys) = task.query.shape, task.values.shape[1:]
    if launch_dense.serves(task):
        return launch_dense.backward(task, grad=grad, ends=ends, index=index, needs=needs)
    like, chip = {"dtype": torch.float32, "device": task.query.device}, chips.chip_of(task.query.device)
    given = (grad, ends.numbers, index)
    precision = "tf32" if task.precision != EXACT else EXACT
    common: dict[str, Any] = {**slopes_block(k), "SLOPES": precision}
    rows = task.query, task.keys, task.values, task.bias_or_keys, task.exempt
    slopes = Slopes(
        query=torch.empty((n, cells, padded) if needs[0] else (0,), **like),
        keys=torch.empty((n, keys, padded), **like),
        values=torch.empty((n, k, keys), **like),
        bias=torch.empty((n, keys), **like),
    )
    with torch.cuda.device_of(task.query):
        if needs[0]:
            tables, constants = windows_and_constants(task, backward=True)
            whole = constants["LENGTH"] == constants["BLOCK_C"]
            config = backward_config(task.precision, chip, tables.kind, padded, whole, k, by_key=False)
            tiles = tables.tiles if task.windowed else cdiv(cells, config["BLOCK_Q"])
            warp_query_slopes_kernel[(tiles * n, cdiv(padded, config["BLOCK_D"]))](
                *rows, tables.bounds, tables.ranks, *given, slopes.query, tables.limit, k, *task.sizes, **constants,
                **common, **config,
            )  # fmt: skip
        tables, constants = windows_and_constants(task, backward=True, by_key=True)
        whole = constants["LENGTH"] == constants["BLOCK_C"]
        for of_values, wanted, width in ((False, needs[1] or needs[3], padded), (True, needs[2], k)):
            if not wanted or not width:
                continue
            if of_values:
                config = values_config(chip, tables.kind, k)
            else:
                config = backward_config(task.precision, chip, tables.kind, padded, whole, k, by_key=True)
            blocks = tables.tiles * task.sizes.frames if task.windowed else cdiv(keys, config["BLOCK_J"])
            warp_key_slopes_kernel[(blocks * n, cdiv(width, config["BLOCK_D"]))](
                *rows, tables.bounds, tables.ranks, *given, slopes.keys, slopes.values, slopes.bias, tables.limit, k,
                *task.sizes, OF_VALUES=of_values, **constants, **common, **config,
            )  # fmt: skip
    return slopes


def top_backward(task: Task, *, grads: Gradients, chosen: torch.Tensor, need_values: bool) -> Slopes:
    """grads: as for `ends_of`, without one of lse; chosen: (N, topk, Q) int64 contiguous, forward's indices."""
    (n, cells, padded), (k, keys), topk = task.query.shape, task.values.shape[1:], chosen.shape[1]
    like = {"dtype": torch.float32, "device": task.query.device}
    slopes = Slopes(
        query=torch.empty((n, cells, padded), **like),
        keys=torch.empty((n, keys, padded), **like),
        values=torch.empty((n, k, keys), **like),
        bias=torch.empty((n, keys), **like),
    )
    weights, of_logits = (torch.empty((n, cells, topk), **like) for _ in range(2))
    ends = torch.stack((grads.confidence, grads.entropy), 1).contiguous()
    block = min(128, next_power_of_2(padded))
    with torch.cuda.device_of(task.query):
        warp_top_slopes_kernel[(cells * n,)](
            task.query, task.keys, task.values, task.bias_or_keys, chosen, grads.values, ends, weights, of_logits,
            slopes.query, k, cells, keys, BIAS=task.bias is not None, CP=padded, KT=topk,
            PLACES=max(2, next_power_of_2(topk)), BLOCK_C=block, num_warps=4, maxnreg=MOST_REGISTERS,
        )  # fmt: skip
        by_choice = chosen.transpose(1, 2).reshape(n, cells * topk)
        ordered, order = torch.sort(by_choice, dim=1, stable=True)
        begins = torch.searchsorted(ordered, torch.arange(keys + 1, device=chosen.device).expand(n, -1).contiguous())
        warp_top_keys_kernel[(keys * n,)](
            task.query, grads.values, weights, of_logits, order, begins, slopes.keys, slopes.values, slopes.bias, k,
            cells, keys, NEED_VALUES=need_values and k > 0, CP=padded, KT=topk, STEP=CHOICES, BLOCK_C=block,
            BLOCK_K=min(64, max(2, next_power_of_2(max(1, k)))), num_warps=4, maxnreg=MOST_REGISTERS,
        )  # fmt: skip
    return slopes
