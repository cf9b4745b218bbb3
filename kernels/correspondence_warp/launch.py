"""Launchers of correspondence_warp's forward Triton kernels: shapes, grids and configurations."""

from __future__ import annotations

import torch
from siamfast.kernels import chips
from siamfast.kernels.chips import MOST_REGISTERS
from siamfast.kernels.correspondence_warp.forward import warp_forward_kernel, warp_join_kernel
from siamfast.kernels.correspondence_warp.task import Task, windows_and_constants
from siamfast.kernels.correspondence_warp.top import warp_chosen_kernel, warp_lists_kernel
from siamfast.kernels.correspondence_warp.windows import SIDE
from siamfast.kernels.integers import MOST_ACROSS, cdiv, next_power_of_2
from siamfast.kernels.tf32 import EXACT

from siamfast.ops.correspondence_warp.call import Outputs

Config = dict[str, int]

# Programs that fill a large chip; where there are fewer, the keys are divided, into MOST_PARTS parts at most, of
# LEAST_KEYS keys at least.
PROGRAMS, MOST_PARTS, LEAST_KEYS = 128, 16, 512
JOIN_BLOCK = 128
MOST_TOP, MOST_LISTED = 32, 128  # keys per list, and those of all parts that a program sorts at once
SMALL_VALUES = 4  # channels of values that are added without tensor cores
MOST_CHANNELS = MOST_ACROSS * 16  # of values or features: 16 at least a program of the second axis


def registers(windowed: bool, chip: int) -> Config:
    """Named, but without a window on sm_90, where ptxas needs fewer and no stack by itself."""
    return {"maxnreg": MOST_REGISTERS} if windowed or chip // 10 != 9 else {}


def forward_config(window: str, precision: str, whole: bool, values: int, chip: int) -> Config:
    """window: its kind; whole: whether a row is one block, so that the queries' rows stay on the chip; values: their
    channels.

    Where values are summed by products, 64 keys at once are for float16 rows of several blocks and up to 16 channels.
    Whole rows of 512 bytes want 100 to 140 KiB of shared memory for them, where consumer cards have 99; and whole rows,
    TF32 and more channels spill (16 bytes to 1 KiB a thread on sm_86, 90 and 120; on sm_100 from three channels on).
    Of whole rows, chips other than sm_100 divide the logits between warps by 16 rows, of which a window's tile has 64.
    """
    windowed, ranks = window != "none", window == "ranks"
    few = windowed and whole and chip // 10 != 10
    named = registers(windowed, chip)
    # Two stages have no register left for 8 to 56 bytes; where products read registers, a second holds little more
    # than the bias.
    one_stage = windowed and whole and (values > SMALL_VALUES or not chips.multiplies_from_shared(chip))
    if precision == EXACT:
        keys, stages = 16 if ranks else 32, 1 if one_stage else 2
        return {"BLOCK_Q": 64, "BLOCK_J": keys, "num_warps": 4, "num_stages": stages, **named}
    # On sm_100 64 keys' logits have no room beside rows without a window either (8 to 96 bytes).
    rows = whole and (windowed or chip // 10 == 10)
    small = 2 if chip // 10 == 10 and not windowed else SMALL_VALUES
    easy = (values <= small and not rows) or (precision == "ieee" and not whole and SMALL_VALUES < values <= 16)
    # Nor without a window, beside the sums of many values, for 8 to 40 bytes.
    one_stage |= not windowed and not easy and values > (16 if whole else SMALL_VALUES) and chip // 10 == 12
    stages = 1 if one_stage else 2
    if windowed and not whole and not chips.multiplies_from_shared(chip):
        stages = 3
    elif windowed and not whole and chip // 10 == 10 and precision == "tf32" and not easy:
        stages = 1
    return {
        "BLOCK_Q": SIDE * SIDE if windowed else 128,
        "BLOCK_J": 16 if ranks else 64 if easy else 32,
        "num_warps": 4 if few else 8,
        "num_stages": stages,
        **named,
    }


def top_config(window: str, precision: str, whole: bool, topk: int, chip: int) -> Config:
    """window: its kind; whole: whether a row is one block.

    Lists are filled row by row, so tiles are small and need few rounds. 64 keys at once are for chips where they do not
    spill: sm_90 (lists of up to 16 places, beside rows in a window 8) and consumer cards of sm_120, where lists of 32
    places spill with 32 keys. The look-ups of ranks take as many registers again, and so do rows beside lists of 32
    on all chips but sm_90, on sm_120 also without a window.
    """
    rows = window != "none" and whole
    wide = precision != EXACT and ((chip // 10 == 12 and not rows) or (chip // 10 == 9 and topk <= (8 if rows else 16)))
    narrow = window == "ranks" or (
        topk > 16 and ((rows and chip // 10 != 9) or (whole and chip // 10 == 12 and precision != EXACT))
    )
    keys = 16 if narrow else 64 if wide else 32
    # A second stage spills: circles by 16 bytes a thread on sm_100, rows of several blocks by 32 on sm_120, ranks
    # where products read their factors from registers.
    one_stage = (
        (window == "circle" and chip // 10 == 10 and precision != EXACT)
        or (chip // 10 == 12 and not whole and precision != EXACT)
        or (window == "ranks" and not chips.multiplies_from_shared(chip))
    )
    return {
        "BLOCK_Q": SIDE * SIDE,
        "BLOCK_J": keys,
        "num_warps": 4,
        "num_stages": 1 if one_stage else 2,
        **registers(window != "none", chip),
    }


def values_block(channels: int, window: str, warps: int) -> Config:
    """KP, channels of values per program, and whether they are added one by one. Sums of 64 spill; those of 32 beside
    ranks, and in a window's program of four warps."""
    if channels <= SMALL_VALUES:
        return {"KP": next_power_of_2(max(1, channels)), "SMALL": True}
    most = 16 if window == "ranks" or (window != "none" and warps == 4) else 32
    return {"KP": min(most, max(16, next_power_of_2(channels))), "SMALL": False}


def split_of(programs: int, keys: int, most: int) -> int:
    """Parts of the keys; they follow from the sizes alone."""
    return max(1, min(cdiv(PROGRAMS, programs), keys // LEAST_KEYS, most))


def forward(task: Task) -> Outputs:
    """Flat over the grid: (N, K, Q) and (N, Q) float32, indices (N, Q) int64."""
    (n, cells, _), (k, keys) = task.query.shape, task.values.shape[1:]
    tables, constants = windows_and_constants(task)
    whole = constants["LENGTH"] == constants["BLOCK_C"]
    chip = chips.chip_of(task.query.device)
    config = forward_config(tables.kind, task.precision, whole, k, chip)
    block = values_block(k, tables.kind, config["num_warps"])
    tiles = tables.tiles if task.windowed else cdiv(cells, config["BLOCK_Q"])
    slices = cdiv(max(k, 1), block["KP"])
    split = split_of(tiles * n * slices, keys, MOST_PARTS)
    like = {"dtype": torch.float32, "device": task.query.device}
    out, ends = torch.empty((n, k, cells), **like), torch.empty((n, 3, cells), **like)
    best = torch.empty((n, cells), dtype=torch.int64, device=task.query.device)
    sums, state, index = out, ends, best
    if split > 1:
        sums, state, index = (t.new_empty((split, *t.shape)) for t in (out, ends, best))
    with torch.cuda.device_of(task.query):
        warp_forward_kernel[(tiles * n, split * slices)](
            task.query, task.keys, task.values, task.bias_or_keys, task.exempt, tables.bounds, tables.ranks, sums,
            state, index, tables.limit, n, k, *task.sizes, SPLIT=split, JOINED=split > 1, **block, **constants,
            **config,
        )  # fmt: skip
        if split > 1:
            warp_join_kernel[(cdiv(cells, JOIN_BLOCK) * n,)](
                sums, state, index, out, ends, best, n, k, cells, SPLIT=split, BLOCK=JOIN_BLOCK, num_warps=4
            )
    return Outputs(values=out, confidence=ends[:, 1], entropy=ends[:, 2], lse=ends[:, 0], indices=best)


def top_forward(task: Task, *, topk: int, post: bool) -> Outputs:
    """As `forward`, with indices (N, topk, Q). No query may see fewer than topk keys."""
    (n, cells, _), (k, keys) = task.query.shape, task.values.shape[1:]
    tables, constants = windows_and_constants(task)
    whole = constants["LENGTH"] == constants["BLOCK_C"]
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
            task.query, task.keys, task.bias_or_keys, task.exempt, tables.bounds, tables.ranks, best, index, state,
            tables.limit, *task.sizes, SPLIT=split, KT=topk, PLACES=max(2, next_power_of_2(topk)), **constants,
            **config,
        )  # fmt: skip
        warp_chosen_kernel[(cdiv(cells, block) * n,)](
            best, index, state, task.values, out, ends, chosen, k, cells, keys, SPLIT=split,
            PARTS=next_power_of_2(split), KT=topk, LISTED=listed, POST=post, BLOCK=block, num_warps=4,
            maxnreg=MOST_REGISTERS,
        )  # fmt: skip
    return Outputs(values=out, confidence=ends[:, 1], entropy=ends[:, 2], lse=ends[:, 0], indices=chosen)
