"""A call of correspondence_warp as its kernels take it: features as rows, numbers laid out flat; and the way back."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from siamfast.kernels import tf32
from siamfast.kernels.chips import MOST_REGISTERS
from siamfast.kernels.correspondence_warp.features import through_unit_rows_kernel, unit_rows_kernel
from siamfast.kernels.correspondence_warp.windows import SIDE, Windows, windows
from siamfast.kernels.integers import cdiv, next_power_of_2
from siamfast.kernels.tf32 import EXACT

from siamfast.ops.correspondence_warp.call import Options, Tensors
from siamfast.ops.lasting import make_lasting

EPS = 1e-12  # F.normalize's least norm
# Of the kernels of features.py: cells of a program (64 bytes side by side of float32), and channels in registers at
# once. A row of more is taken in blocks of a quarter: beside the block in flight the first is still kept, and of 512
# the way back put up to 400 bytes a thread on the stack (sm_80, float32).
BLOCK_CELLS, MOST_CHANNELS = 16, 512


class Sizes(NamedTuple):
    """Of the grids, in the kernels' order."""

    query_height: int
    query_width: int
    height: int  # of the keys' grid
    width: int
    frames: int
    channels: int  # of a row


class Slopes(NamedTuple):
    """Gradients of a task's tensors, float32; those of query and keys in units of their sample."""

    query: torch.Tensor  # (N, Q, CP)
    keys: torch.Tensor  # (N, J, CP)
    values: torch.Tensor  # (N, K, J)
    bias: torch.Tensor  # (N, J)
    units: torch.Tensor | None = None  # (N,); None: 1


class Ends(NamedTuple):
    """What the backward kernels need of each query, by launch_backward.ends_of."""

    numbers: torch.Tensor  # (N, 4, Q) float32: lse, r, e, c, as in backward.py
    units: torch.Tensor | None  # (N,) float32: a sample's slopes are at most launch_dense.LARGEST of them; None: 1


class Task(NamedTuple):
    """A call of the raw op: features as rows, values and bias laid out flat."""

    query: torch.Tensor  # (N, Q, CP)
    keys: torch.Tensor  # (N, J, CP)
    values: torch.Tensor  # (N, K, J) float32
    bias: torch.Tensor | None  # (N, J) float32
    exempt: torch.Tensor  # (T,) int32
    inverse: tuple[torch.Tensor, torch.Tensor]  # 1 / norms of query and keys
    sizes: Sizes
    radius: float
    circle: bool
    precision: str

    @property
    def windowed(self) -> bool:
        return self.radius >= 0

    @property
    def bias_or_keys(self) -> torch.Tensor:
        """A pointer for kernels, which read it only where there is a bias."""
        return self.keys if self.bias is None else self.bias


def product_of(query: torch.Tensor, normalize: bool) -> tuple[torch.dtype, str]:
    """The dtype that rows are stored in, and the precision that they are multiplied in.

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
    on the chip, and 128 bytes of longer ones. The backward kernels have other tiles beside it: 256 bytes at most, also
    of longer rows that they divide. The exact product makes three factors of each: 128 bytes, since 256 and more spill
    (forward by up to 544 bytes a thread, on sm_86); backward 64, of rows of 512 bytes or more."""
    whole = max(16, next_power_of_2(channels))
    least = 64 if backward else 128  # of the exact product
    if whole * size <= 512:
        most = (least if whole * size == 512 else 128) if precision == EXACT else 256 if backward else 512
        return whole, min(whole, most // size)
    block = 128 // size
    padded = cdiv(channels, block) * block
    if precision == EXACT:
        block = least // size
    elif backward and padded % (2 * block) == 0:
        block *= 2
    return padded, block


def make_task(tensors: Tensors, options: Options) -> Task:
    query, keys, values, bias = tensors
    (n, channels, hq, wq), (frames, h, w) = query.shape, (keys.shape[1], *keys.shape[3:])
    dtype, precision = product_of(query, options.normalize)
    padded, _ = row_blocks(channels, dtype.itemsize, precision)
    with torch.cuda.device_of(query):
        q, q_inverse = unit_rows(query.unsqueeze(1), dtype, padded, 1 / options.temperature, options.normalize)
        r, r_inverse = unit_rows(keys, dtype, padded, 1.0, options.normalize)
    # Of maps of one cell, reshape gives a view with the frames' strides, hence contiguous.
    flat = values.float().transpose(1, 2).reshape(n, values.shape[2], frames * h * w).contiguous()
    return Task(
        query=q.flatten(1, 2),
        keys=r.flatten(1, 2),
        values=flat,
        bias=None if bias is None else bias.float().flatten(1).contiguous(),
        exempt=_exempt_frames(frames, tuple(options.global_frames), query.device),
        inverse=(q_inverse, r_inverse),
        sizes=Sizes(hq, wq, h, w, frames, padded),
        radius=options.radius,
        circle=options.circle,
        precision=precision,
    )


@functools.cache  # never freed: a captured CUDA graph reads it by address
def _exempt_frames(frames: int, chosen: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """(T,) int32: 1 for frames without a window. Cached, since a copy to the device cannot be captured."""
    marks = [int(t in chosen) for t in range(frames)]
    return make_lasting(lambda: torch.tensor(marks, dtype=torch.int32, device=device), device)


def windows_and_constants(
    task: Task, *, backward: bool = False, by_key: bool = False
) -> tuple[Windows, dict[str, Any]]:
    """What the launchers of a task share; by_key: tiles are of keys."""
    queries, keys = task.sizes[:2], task.sizes[2:4]
    tables = windows(queries, keys, task.radius, task.circle, task.query.device, by_key)
    padded = task.query.shape[2]
    _, block = row_blocks(padded, task.query.element_size(), task.precision, backward)
    length = padded if padded == next_power_of_2(padded) else 0
    constants = {
        "WINDOW": tables.kind, "BIAS": task.bias is not None, "LENGTH": length, "BLOCK_C": block, "SIDE": SIDE,
        "PRECISION": task.precision, "UPCAST": not task.query.is_cuda,
    }  # fmt: skip
    return tables, constants


def unit_rows(
    features: torch.Tensor,  # (N, T, C, H, W), any strides
    dtype: torch.dtype,  # of the products
    padded: int,  # channels of a row
    factor: float,
    normalize: bool,
) -> tuple[torch.Tensor, torch.Tensor]:  # rows (N, T, H*W, padded), 1 / norms (N, T, H*W) float32
    n, t, channels, height, width = features.shape
    cells = height * width
    rows = torch.empty((n, t, cells, padded), dtype=dtype, device=features.device)
    inverse = torch.empty((n, t, cells if normalize else 0), dtype=torch.float32, device=features.device)
    unit_rows_kernel[(cdiv(cells, BLOCK_CELLS) * n * t,)](
        features, rows, inverse, factor, t, channels, width, cells, *features.stride(), CP=padded,
        NORMALIZE=normalize, LEAST=EPS, **features_config(padded), maxnreg=MOST_REGISTERS,
    )  # fmt: skip
    return rows, inverse


def features_config(padded: int) -> dict[str, int]:
    """32 numbers a thread at most, whose loads are in flight together."""
    channels = next_power_of_2(padded) if padded <= MOST_CHANNELS else MOST_CHANNELS // 4
    return {"BLOCK_CELLS": BLOCK_CELLS, "BLOCK_CHANNELS": channels, "num_warps": 8 if padded > 256 else 4}


def through_unit_rows(
    slopes: torch.Tensor,  # (N, T, H*W, padded) float32 contiguous
    units: torch.Tensor | None,  # (N,) float32: the slopes' of each sample; None: 1
    features: torch.Tensor,  # (N, T, C, H, W)
    inverse: torch.Tensor,  # (N, T, H*W)
    factor: float,
    normalize: bool,
) -> torch.Tensor:  # like features, contiguous
    n, t, channels, height, width = features.shape
    out = torch.empty(features.shape, dtype=features.dtype, device=features.device)
    # For one more block on a multiprocessor of sm_80, 16 bytes of 144 channels or more may be on the stack (Triton 3.6)
    # if nothing is normalized; otherwise there is none, and named registers would be up to half as many again.
    named = {} if normalize else {"maxnreg": MOST_REGISTERS}
    through_unit_rows_kernel[(cdiv(height * width, BLOCK_CELLS) * n * t,)](
        slopes, slopes if units is None else units, features, inverse, out, factor, t, channels, width, height * width,
        *features.stride(), CP=slopes.shape[-1], UNITS=units is not None, NORMALIZE=normalize, LEAST=EPS,
        **features_config(slopes.shape[-1]), **named,
    )  # fmt: skip
    return out


def slopes_of_features(
    task: Task, slopes: Slopes, tensors: Tensors, options: Options, needs: list[bool]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Slopes of the rows to those of query and keys, in their own shapes and dtypes."""
    query, keys = tensors.query, tensors.keys
    d_query = d_keys = None
    with torch.cuda.device_of(query):
        if needs[0]:
            d_query = through_unit_rows(
                slopes.query, slopes.units, query.unsqueeze(1), task.inverse[0], 1 / options.temperature,
                options.normalize,
            ).squeeze(1)  # fmt: skip
        if needs[1]:
            d_keys = through_unit_rows(slopes.keys, slopes.units, keys, task.inverse[1], 1.0, options.normalize)
    return d_query, d_keys
