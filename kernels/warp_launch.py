"""Launchers of the warp's Triton kernels: shapes, grids, and the configurations that they run in."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from siamfast.kernels import chips, tf32
from siamfast.kernels import correspondence_warp as forward_kernels
from siamfast.kernels import correspondence_warp_backward as backward_kernels
from siamfast.kernels import correspondence_warp_top as top_kernels
from siamfast.kernels.integers import cdiv, next_power_of_2
from siamfast.kernels.warp_features import through_unit_rows, unit_rows
from siamfast.kernels.warp_windows import SIDE, windows
from siamfast.kernels.xcorr_launch import EXACT

from siamfast.ops.lasting import make_lasting

Config = dict[str, int]

# Programs that fill a large chip; fewer are made more by dealing out the keys, of which each gets some tiles at least.
PROGRAMS, LEAST_KEYS = 128, 512
MOST_TOP, MOST_LISTED = 32, 128  # chosen keys, and those of all parts that a program sorts at once
# Channels of values that are summed without tensor cores; backward they are no more than a few multiply-adds a logit,
# and products of them want registers that the slopes have.
SMALL_VALUES, SMALL_SLOPES = 4, 16


class Task(NamedTuple):
    """A call of the raw op: its features as rows, its numbers laid out flat."""

    query: torch.Tensor  # (N, Q, CP)
    keys: torch.Tensor  # (N, J, CP)
    values: torch.Tensor  # (N, K, J) float32
    bias: torch.Tensor | None  # (N, J) float32
    exempt: torch.Tensor  # (T,) int32
    inverse: tuple[torch.Tensor, torch.Tensor]  # norms of query and keys
    sizes: tuple[int, int, int, int, int]  # Hq, Wq, H, W, T
    radius: float
    circle: bool
    precision: str

    @property
    def windowed(self) -> bool:
        return self.radius >= 0


def product_of(query: torch.Tensor, normalize: bool) -> tuple[torch.dtype, str]:
    """What rows are stored in and how they are multiplied.

    Unit features in float16 have TF32's 10 bits at twice its speed; bfloat16's 7 would change about 1 % of the top-10
    sets. Float32 features with TF32 forbidden (kernels/tf32.py) are multiplied exactly.
    """
    if query.dtype == torch.float32 and not tf32.allowed():
        return torch.float32, EXACT
    if normalize or query.dtype == torch.float16:
        return torch.float16, "ieee"
    return torch.float32, "tf32"


def row_blocks(channels: int, size: int, precision: str, backward: bool = False) -> tuple[int, int]:
    """Padded channels of a row, and those of one block: the whole row up to 512 bytes, so that a tile of queries stays
    on the chip. The backward kernels have other tiles beside it: 256 bytes; the exact product has three factors of
    each: 128 bytes, for 256 and more spill (forward by up to 544 bytes a thread, on sm_86)."""
    whole = max(16, next_power_of_2(channels))
    if whole * size <= 512:
        most = 128 if precision == EXACT else 256 if backward else 512
        return whole, min(whole, most // size)
    block = 128 // size
    return cdiv(channels, block) * block, block


def forward_config(windowed: bool, precision: str, whole: bool, values: int) -> Config:
    """whole: whether a row is one block, so that the queries' stay on the chip; values: channels.

    Where values are summed by products, 64 keys at once are for float16 rows of several blocks and up to 16 channels.
    Whole rows of 512 bytes want 100 to 140 KiB of shared memory for them, where consumer cards have 99; and whole rows,
    TF32 and more channels spill (16 bytes to 1 KiB a thread on sm_86, 90 and 120).
    """
    if precision == EXACT:
        return {"BLOCK_Q": 64, "BLOCK_J": 32, "num_warps": 4, "num_stages": 2}
    easy = values <= SMALL_VALUES or (precision == "ieee" and not whole and values <= 16)
    keys = 64 if easy else 32
    return {"BLOCK_Q": SIDE * SIDE if windowed else 128, "BLOCK_J": keys, "num_warps": 8, "num_stages": 2}


def top_config(window: int, precision: str, chip: int) -> Config:
    """Lists are sought through by rows: smaller tiles, so that their rounds are few. Distances in float64 (window 3)
    take twice the registers."""
    keys = 16 if window == 3 else 32 if precision == EXACT else 64
    # A second stage spills: circles by 16 bytes a thread on sm_100, distances before sm_90.
    one_stage = (window == 2 and chip == 100 and precision != EXACT) or (
        window == 3 and not chips.multiplies_from_shared(chip)
    )
    return {
        "BLOCK_Q": SIDE * SIDE,
        "BLOCK_J": keys,
        "num_warps": 4,
        "num_stages": 1 if one_stage else 2,
    }


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


def values_block(channels: int) -> Config:
    """KP channels of values in one program, and whether they are summed one by one. Sums of 64 spill."""
    if channels <= SMALL_VALUES:
        return {"KP": next_power_of_2(max(1, channels)), "SMALL": True}
    return {"KP": min(32, max(16, next_power_of_2(channels))), "SMALL": False}


def slopes_block(channels: int) -> Config:
    """The same, backward."""
    return {"KP": 16, "SMALL": channels <= SMALL_SLOPES}


def make_task(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None, temperature: float,
    normalize: bool, radius: float, circle: bool, global_frames: list[int],
) -> Task:  # fmt: skip
    (n, channels, hq, wq), (frames, h, w) = query.shape, (keys.shape[1], *keys.shape[3:])
    dtype, precision = product_of(query, normalize)
    padded, _ = row_blocks(channels, dtype.itemsize, precision)
    with torch.cuda.device_of(query):
        q, q_inverse = unit_rows(query.unsqueeze(1), dtype, padded, 1 / temperature, normalize)
        r, r_inverse = unit_rows(keys, dtype, padded, 1.0, normalize)
    flat = values.float().transpose(1, 2).reshape(n, values.shape[2], frames * h * w)
    return Task(
        q.flatten(1, 2), r.flatten(1, 2), flat, None if bias is None else bias.float().flatten(1).contiguous(),
        _exempt(frames, tuple(global_frames), query.device), (q_inverse, r_inverse), (hq, wq, h, w, frames), radius,
        circle, precision,
    )  # fmt: skip


@functools.cache  # for good: a captured CUDA graph reads it by address
def _exempt(frames: int, chosen: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """(T,) int32: 1 for frames that the window does not bound. Kept: a copy to the device cannot be captured."""
    marks = [int(t in chosen) for t in range(frames)]
    return make_lasting(lambda: torch.tensor(marks, dtype=torch.int32, device=device), device)


def _common(task: Task, *, backward: bool = False, by_key: bool = False) -> tuple[tuple[Any, ...], dict[str, Any], int]:
    """bounds and places, constants, and how many tiles there are (without a window: none)."""
    hq, wq, h, w, _ = task.sizes
    found = windows((hq, wq), (h, w), task.radius, task.circle, task.query.device, by_key)
    _, block = row_blocks(task.query.shape[2], task.query.element_size(), task.precision, backward)
    constants = {
        "WINDOW": found.kind, "BIAS": task.bias is not None, "CP": task.query.shape[2], "BLOCK_C": block, "SIDE": SIDE,
        "PRECISION": task.precision, "UPCAST": not task.query.is_cuda,
    }  # fmt: skip
    if found.kind == 3:  # a sum of squares rounded once would move keys that lie at the radius exactly
        constants["enable_fp_fusion"] = False
    return (found.bounds, found.places, found.limit), constants, found.tiles[0] * found.tiles[1]


def split_of(programs: int, keys: int, most: int) -> int:
    """Parts of the keys; decided by the sizes alone."""
    return max(1, min(cdiv(PROGRAMS, programs), keys // LEAST_KEYS, most))


def launch_forward(task: Task) -> tuple[torch.Tensor, ...]:
    """values (N, K, Q), confidence, entropy, lse (N, Q), float32; index (N, Q) int64."""
    (n, cells, _), (k, keys) = task.query.shape, task.values.shape[1:]
    (bounds, places, limit), constants, tiles = _common(task)
    whole = constants["BLOCK_C"] == constants["CP"]
    config, block = forward_config(task.windowed, task.precision, whole, k), values_block(k)
    tiles = tiles if task.windowed else cdiv(cells, config["BLOCK_Q"])
    slices = cdiv(max(k, 1), block["KP"])
    split = split_of(tiles * n * slices, keys, 16)
    like = {"dtype": torch.float32, "device": task.query.device}
    sums, state = torch.empty((split, n, k, cells), **like), torch.empty((split, n, 3, cells), **like)
    index = torch.empty((split, n, cells), dtype=torch.int64, device=task.query.device)
    with torch.cuda.device_of(task.query):
        forward_kernels.warp_forward_kernel[(tiles * n, split * slices)](
            task.query, task.keys, task.values, task.keys if task.bias is None else task.bias, task.exempt, bounds,
            places, sums, state, index, limit, n, k, *task.sizes, SPLIT=split, **block, **constants, **config,
        )  # fmt: skip
        if split > 1:
            out, ends = torch.empty((n, k, cells), **like), torch.empty((n, 3, cells), **like)
            best = torch.empty((n, cells), dtype=torch.int64, device=task.query.device)
            forward_kernels.warp_join_kernel[(cdiv(cells, 128) * n,)](
                sums, state, index, out, ends, best, n, k, cells, SPLIT=split, BLOCK=128, num_warps=4
            )
        else:
            out, ends, best = sums[0], state[0], index[0]
    return out, ends[:, 1], ends[:, 2], ends[:, 0], best


def launch_top(task: Task, topk: int, post: bool) -> tuple[torch.Tensor, ...]:
    """values (N, K, Q), confidence, entropy, lse (N, Q), float32; chosen (N, topk, Q) int64. No query may see
    fewer than topk keys."""
    (n, cells, _), (k, keys) = task.query.shape, task.values.shape[1:]
    (bounds, places, limit), constants, tiles = _common(task)
    config = top_config(constants["WINDOW"], task.precision, chips.chip_of(task.query.device))
    tiles = tiles if task.windowed else cdiv(cells, config["BLOCK_Q"])
    split = split_of(tiles * n, keys, MOST_LISTED // topk)
    device, shape = task.query.device, (n, cells, split, topk)
    best = torch.empty(shape, dtype=torch.float32, device=device)
    index = torch.empty(shape, dtype=torch.int32, device=device)
    state = torch.empty((n, cells, split, 2), dtype=torch.float32, device=device)
    out = torch.empty((n, k, cells), dtype=torch.float32, device=device)
    ends = torch.empty((n, 3, cells), dtype=torch.float32, device=device)
    chosen = torch.empty((n, topk, cells), dtype=torch.int64, device=device)
    listed = max(2, next_power_of_2(split * topk))
    block = max(1, 4096 // listed**2)
    with torch.cuda.device_of(task.query):
        top_kernels.warp_lists_kernel[(tiles * n, split)](
            task.query, task.keys, task.keys if task.bias is None else task.bias, task.exempt, bounds, places, best,
            index, state, limit, *task.sizes, SPLIT=split, KT=topk, PLACES=max(2, next_power_of_2(topk)),
            **constants, **config,
        )  # fmt: skip
        top_kernels.warp_chosen_kernel[(cdiv(cells, block) * n,)](
            best, index, state, task.values, out, ends, chosen, k, cells, keys, SPLIT=split,
            PARTS=next_power_of_2(split), KT=topk, LISTED=listed, POST=post, BLOCK=block, num_warps=4,
        )  # fmt: skip
    return out, ends[:, 1], ends[:, 2], ends[:, 0], chosen


def launch_backward(
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
            (bounds, places, limit), constants, tiles = _common(task, backward=True)
            config = backward_config(task.precision, chip, constants["WINDOW"], k, by_key=False, of_values=False)
            tiles = tiles if task.windowed else cdiv(cells, config["BLOCK_Q"])
            backward_kernels.warp_query_slopes_kernel[(tiles * n, cdiv(padded, config["BLOCK_D"]))](
                *rows, bounds, places, *numbers, d_query, limit, k, *task.sizes, **constants, **common, **config
            )
        (bounds, places, limit), constants, tiles = _common(task, backward=True, by_key=True)
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


def launch_top_backward(
    task: Task,
    grads: tuple[torch.Tensor, ...],  # of values (N, K, Q), confidence, entropy (N, Q), float32
    chosen: torch.Tensor,  # (N, topk, Q) int64
    need_values: bool,
) -> tuple[torch.Tensor, ...]:  # as launch_backward
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


def back_to_features(
    task: Task, slopes: tuple[torch.Tensor, torch.Tensor], query: torch.Tensor, keys: torch.Tensor, temperature: float,
    normalize: bool, needs: list[bool],
) -> list[torch.Tensor | None]:  # fmt: skip
    """Slopes of the rows, (N, Q, CP) and (N, J, CP), to those of query and keys in their own shapes and dtypes."""
    found: list[torch.Tensor | None] = [None, None]
    with torch.cuda.device_of(query):
        if needs[0]:
            one = query.unsqueeze(1)
            found[0] = through_unit_rows(slopes[0], one, task.inverse[0], 1 / temperature, normalize).squeeze(1)
        if needs[1]:
            found[1] = through_unit_rows(slopes[1], keys, task.inverse[1], 1.0, normalize)
    return found
