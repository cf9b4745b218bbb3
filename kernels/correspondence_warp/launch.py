"""Launchers of correspondence_warp's forward Triton kernels: shapes, grids and configurations."""

from __future__ import annotations

import torch
from siamfast.kernels import chips
from siamfast.kernels.correspondence_warp.forward import warp_forward_kernel, warp_join_kernel
from siamfast.kernels.correspondence_warp.task import Task, windows_and_constants
from siamfast.kernels.correspondence_warp.top import warp_chosen_kernel, warp_lists_kernel
from siamfast.kernels.correspondence_warp.windows import SIDE
from siamfast.kernels.integers import cdiv, next_power_of_2
from siamfast.kernels.tf32 import EXACT

from siamfast.ops.correspondence_warp.call import Outputs

Config = dict[str, int]

# Programs that fill a large chip; where there are fewer, the keys are divided, into MOST_PARTS parts at most, of
# LEAST_KEYS keys at least.
PROGRAMS, MOST_PARTS, LEAST_KEYS = 128, 16, 512
JOIN_BLOCK = 128
MOST_TOP, MOST_LISTED = 32, 128  # keys per list, and those of all parts that a program sorts at once
SMALL_VALUES = 4  # channels of values that are added without tensor cores


def forward_config(windowed: bool, precision: str, whole: bool, values: int, chip: int) -> Config:
    """whole: whether a row is one block, so that the queries' rows stay on the chip; values: their channels.

    Where values are summed by products, 64 keys at once are for float16 rows of several blocks and up to 16 channels.
    Whole rows of 512 bytes want 100 to 140 KiB of shared memory for them, where consumer cards have 99; and whole rows,
    TF32 and more channels spill (16 bytes to 1 KiB a thread on sm_86, 90 and 120; on sm_100 from three channels on).
    """
    if precision == EXACT:
        return {"BLOCK_Q": 64, "BLOCK_J": 32, "num_warps": 4, "num_stages": 2}
    small = 2 if chip // 10 == 10 and not windowed else SMALL_VALUES
    easy = values <= small or (precision == "ieee" and not whole and values <= 16)
    keys = 64 if easy else 32
    # With a second stage this one keeps 56 bytes a thread on the stack on sm_100.
    one_stage = chip // 10 == 10 and windowed and precision == "tf32" and not whole and not easy
    return {
        "BLOCK_Q": SIDE * SIDE if windowed else 128,
        "BLOCK_J": keys,
        "num_warps": 8,
        "num_stages": 1 if one_stage else 2,
    }


def top_config(window: str, precision: str, whole: bool, topk: int, chip: int) -> Config:
    """window: its kind; whole: whether a row is one block.

    Lists are filled row by row, so tiles are small and need few rounds. 64 keys at once are for chips where they do not
    spill: sm_90 (lists of up to 16 places) and consumer cards of sm_120, where lists of 32 places spill with 32 keys.
    Distances in float64 take twice the registers.
    """
    wide = precision != EXACT and (chip // 10 == 12 or (chip // 10 == 9 and topk <= 16))
    keys = 16 if window == "distances" else 64 if wide else 32
    # A second stage spills: circles by 16 bytes a thread on sm_100, rows of several blocks by 32 on sm_120, distances
    # where products read their factors from registers.
    one_stage = (
        (window == "circle" and chip // 10 == 10 and precision != EXACT)
        or (chip // 10 == 12 and not whole and precision != EXACT)
        or (window == "distances" and not chips.multiplies_from_shared(chip))
    )
    return {
        "BLOCK_Q": SIDE * SIDE,
        "BLOCK_J": keys,
        "num_warps": 4,
        "num_stages": 1 if one_stage else 2,
    }


def values_block(channels: int) -> Config:
    """KP, channels of values per program, and whether they are added one by one. Sums of 64 spill."""
    if channels <= SMALL_VALUES:
        return {"KP": next_power_of_2(max(1, channels)), "SMALL": True}
    return {"KP": min(32, max(16, next_power_of_2(channels))), "SMALL": False}


def split_of(programs: int, keys: int, most: int) -> int:
    """Parts of the keys; they follow from the sizes alone."""
    return max(1, min(cdiv(PROGRAMS, programs), keys // LEAST_KEYS, most))


def forward(task: Task) -> Outputs:
    """Flat over the grid: (N, K, Q) and (N, Q) float32, indices (N, Q) int64."""
    (n, cells, _), (k, keys) = task.query.shape, task.values.shape[1:]
    tables, constants = windows_and_constants(task)
    whole = constants["BLOCK_C"] == constants["CP"]
    chip = chips.chip_of(task.query.device)
    config, block = forward_config(task.windowed, task.precision, whole, k, chip), values_block(k)
    tiles = tables.tiles if task.windowed else cdiv(cells, config["BLOCK_Q"])
    slices = cdiv(max(k, 1), block["KP"])
    split = split_of(tiles * n * slices, keys, MOST_PARTS)
    like = {"dtype": torch.float32, "device": task.query.device}
    sums, state = torch.empty((split, n, k, cells), **like), torch.empty((split, n, 3, cells), **like)
    index = torch.empty((split, n, cells), dtype=torch.int64, device=task.query.device)
    with torch.cuda.device_of(task.query):
        warp_forward_kernel[(tiles * n, split * slices)](
            task.query, task.keys, task.values, task.bias_or_keys, task.exempt, tables.bounds, tables.places, sums,
            state, index, tables.limit, n, k, *task.sizes, SPLIT=split, **block, **constants, **config,
        )  # fmt: skip
        if split > 1:
            out, ends = torch.empty((n, k, cells), **like), torch.empty((n, 3, cells), **like)
            best = torch.empty((n, cells), dtype=torch.int64, device=task.query.device)
            warp_join_kernel[(cdiv(cells, JOIN_BLOCK) * n,)](
                sums, state, index, out, ends, best, n, k, cells, SPLIT=split, BLOCK=JOIN_BLOCK, num_warps=4
            )
        else:
            out, ends, best = sums[0], state[0], index[0]
    return Outputs(values=out, confidence=ends[:, 1], entropy=ends[:, 2], lse=ends[:, 0], indices=best)


def top_forward(task: Task, *, topk: int, post: bool) -> Outputs:
    """As `forward`, with indices (N, topk, Q). No query may see fewer than topk keys."""
    (n, cells, _), (k, keys) = task.query.shape, task.values.shape[1:]
    tables, constants = windows_and_constants(task)
    whole = constants["BLOCK_C"] == constants["CP"]
    config = top_config(tables.kind, task.precision, whole, topk, chips.chip_of(task.query.device))
    tiles = tables.tiles if task.windowed else cdiv(cells, config["BLOCK_Q"])
    split = split_of(tiles * n, keys, MOST_LISTED // topk)
    device, shape = task.query.device, (n, cells, split, topk)
    best = torch.empty(shape, dtype=torch.float32, device=device)
    index = torch.empty(shape, dtype=torch.int32, device=device)
    state = torch.empty((n, cells, split, 2), dtype=torch.float32, device=device)
    out = torch.empty((n, k, cells), dtype=torch.float32, device=device)
    ends = torch.empty((n, 3, cells), dtype=torch.float32, device=device)
    chosen = torch.empty((n, topk, cells), dtype=torch.int64, device=device)
    listed = max(2, next_power_of_2(split * topk))
    block = max(1, 4096 // listed**2)  # each program compares all pairs of its lists
    with torch.cuda.device_of(task.query):
        warp_lists_kernel[(tiles * n, split)](
            task.query, task.keys, task.bias_or_keys, task.exempt, tables.bounds, tables.places, best, index, state,
            tables.limit, *task.sizes, SPLIT=split, KT=topk, PLACES=max(2, next_power_of_2(topk)), **constants,
            **config,
        )  # fmt: skip
        warp_chosen_kernel[(cdiv(cells, block) * n,)](
            best, index, state, task.values, out, ends, chosen, k, cells, keys, SPLIT=split,
            PARTS=next_power_of_2(split), KT=topk, LISTED=listed, POST=post, BLOCK=block, num_warps=4,
        )  # fmt: skip
    return Outputs(values=out, confidence=ends[:, 1], entropy=ends[:, 2], lse=ends[:, 0], indices=chosen)
