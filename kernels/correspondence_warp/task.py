"""A call of correspondence_warp as its kernels take it: features as rows, numbers laid out flat; and the way back."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from siamfast.kernels import tf32
from siamfast.kernels.correspondence_warp.features import through_unit_rows_kernel, unit_rows_kernel
from siamfast.kernels.correspondence_warp.windows import SIDE, windows
from siamfast.kernels.integers import cdiv, next_power_of_2
from siamfast.kernels.tf32 import EXACT

from siamfast.ops.lasting import make_lasting

EPS = 1e-12  # F.normalize's least norm
BLOCK_CELLS, BLOCK_CHANNELS, NUM_WARPS = 64, 32, 4


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


def tiling(task: Task, *, backward: bool = False, by_key: bool = False) -> tuple[tuple[Any, ...], dict[str, Any], int]:
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


def unit_rows(
    features: torch.Tensor,  # (N, T, C, H, W), any strides
    dtype: torch.dtype,  # of the products
    padded: int,  # channels of a row
    factor: float,
    normalize: bool,
) -> tuple[torch.Tensor, torch.Tensor]:  # (N, T, H*W, padded), (N, T, H*W) float32
    n, t, channels, height, width = features.shape
    cells = height * width
    rows = torch.empty((n, t, cells, padded), dtype=dtype, device=features.device)
    inverse = torch.empty((n, t, cells if normalize else 0), dtype=torch.float32, device=features.device)
    unit_rows_kernel[(cdiv(cells, BLOCK_CELLS) * n * t,)](
        features, rows, inverse, factor, t, channels, width, cells, *features.stride(), CP=padded,
        NORMALIZE=normalize, LEAST=EPS, BLOCK_CELLS=BLOCK_CELLS, BLOCK_CHANNELS=BLOCK_CHANNELS, num_warps=NUM_WARPS,
    )  # fmt: skip
    return rows, inverse


def through_unit_rows(
    slopes: torch.Tensor,  # (N, T, H*W, padded) float32 contiguous
    features: torch.Tensor,  # (N, T, C, H, W)
    inverse: torch.Tensor,  # (N, T, H*W)
    factor: float,
    normalize: bool,
) -> torch.Tensor:  # like features, contiguous
    n, t, channels, height, width = features.shape
    out = torch.empty(features.shape, dtype=features.dtype, device=features.device)
    through_unit_rows_kernel[(cdiv(height * width, BLOCK_CELLS) * n * t,)](
        slopes, features, inverse, out, factor, t, channels, width, height * width, *features.stride(),
        CP=slopes.shape[-1], NORMALIZE=normalize, LEAST=EPS, BLOCK_CELLS=BLOCK_CELLS, BLOCK_CHANNELS=BLOCK_CHANNELS,
        num_warps=NUM_WARPS,
    )  # fmt: skip
    return out


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
