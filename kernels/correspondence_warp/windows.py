"""Which keys the queries of a tile may see: tables made once on the host, and the test in the kernels.

Queries are taken in tiles of SIDE x SIDE cells (without a window in tiles of consecutive cells), keys in the rectangle
around the windows of a tile. Bounds are computed in float64, as in the reference, so that no rounding moves a border;
kernels compare integers only.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl

from siamfast.ops.lasting import make_lasting

SIDE = 8

# For kernels whose loops take most of a thread's registers: the compiler is not told which sizes are 1 or multiples of
# 16, nor how arrays are aligned that are read number by number. No load of theirs is wider for knowing it, and each
# such fact would be another program, with registers of its own.
jit_for_any_size = triton.jit(
    do_not_specialize=["limit", "N", "K", "HQ", "WQ", "H", "W", "FRAMES", "CHANNELS", "SPLIT", "KT"],
    do_not_specialize_on_alignment=["values_ptr", "bias_ptr", "grad_ptr"],
)


class Windows(NamedTuple):
    """Which cells of the other grid each tile of a grid may see.

    kind: "none"; "square", which is all of its rectangle; "circle", by whole squared distances (both grids alike);
    "ranks", a circle by ranks of distances (grids that differ).
    bounds: int32, the first and last row or column of the other grid that is visible from each row of tiles, column of
    tiles, row of cells and column of cells, one after another.
    ranks: int32 (HQ * H + WQ * W,): for each row of queries and row of keys, how many of the distances between columns,
    from the shortest on, are near; for each column of queries and column of keys, the rank of their distance.
    limit: a squared distance below it is near ("circle").
    tiles: how many there are; 0 without a window.
    """

    kind: str
    bounds: torch.Tensor
    ranks: torch.Tensor
    limit: int
    tiles: int


def _first_and_last(near: np.ndarray) -> list[np.ndarray]:
    """near: (cells, others) bool -> the first and last near other of each tile and of each cell; 0, -1 if none is."""
    ranges = []
    for block in (SIDE, 1):
        count = -(-near.shape[0] // block)
        padded = np.zeros((count * block, near.shape[1]), bool)
        padded[: near.shape[0]] = near
        visible = padded.reshape(count, block, -1).any(1)
        first, last = visible.argmax(1), near.shape[1] - 1 - visible[:, ::-1].argmax(1)
        ranges.append(np.where(visible.any(1)[:, None], np.stack([first, last], 1), [0, -1]))
    return ranges


def _ranks(down: np.ndarray, across: np.ndarray, radius: float) -> np.ndarray:
    """`Windows.ranks`; down, across: from each row or column of queries to each of the keys', in cells of their grid.

    The reference's dy * dy + dx * dx < radius * radius never becomes true as dx grows, whatever the rounding. So for
    each dy the near ones are the first of the sorted dx * dx; how many, is found by halving.
    """
    down, across = down * down, across * across
    shortest = np.unique(across)
    low, high = np.zeros(down.shape, np.int32), np.full(down.shape, len(shortest), np.int32)
    while (open_ := low < high).any():
        middle = (low + high) // 2
        near = down + shortest[np.minimum(middle, len(shortest) - 1)] < radius * radius
        low, high = np.where(open_ & near, middle + 1, low), np.where(open_ & ~near, middle, high)
    return np.concatenate([low.ravel(), np.searchsorted(shortest, across).ravel()]).astype(np.int32)


@functools.cache  # never freed: a captured CUDA graph reads them by address
def windows(
    queries: tuple[int, int], keys: tuple[int, int], radius: float, circle: bool, device: torch.device, by_key: bool
) -> Windows:
    """For tiles of queries and the keys that they see, or (by_key) for tiles of keys and the queries that see them."""
    if radius < 0:
        nothing = torch.zeros(0, dtype=torch.int32, device=device)
        return Windows("none", nothing, nothing, 0, 0)
    tables, away = [], []
    for q, k in zip(queries, keys, strict=True):
        away.append(np.arange(k) - ((np.arange(q) + 0.5) * k / q - 0.5)[:, None])
        near = np.abs(away[-1]) <= radius
        tables.append(_first_and_last(near.T if by_key else near))
    bounds = np.concatenate([tables[0][0], tables[1][0], tables[0][1], tables[1][1]]).astype(np.int32)
    kind = ("circle" if queries == keys else "ranks") if circle else "square"
    ranks = _ranks(*away, radius) if kind == "ranks" else np.zeros(0, np.int32)
    limit = math.ceil(min(radius * radius, 2**31 - 1))
    host = torch.from_numpy(bounds).flatten(), torch.from_numpy(ranks)
    on_device = make_lasting(lambda: [table.to(device) for table in host], device)
    return Windows(kind, *on_device, limit, tiles=len(tables[0][0]) * len(tables[1][0]))


@functools.lru_cache(maxsize=64)
def least_keys(
    queries: tuple[int, int], keys: tuple[int, int], frames: int, radius: float, circle: bool, exempt: int
) -> int:
    """No query sees fewer keys than this (a low bound for circles on grids that differ)."""
    whole = keys[0] * keys[1]
    if radius < 0:
        return frames * whole
    counts = []
    for q, k in zip(queries, keys, strict=True):
        at = (np.arange(q) + 0.5) * k / q - 0.5
        counts.append(int((np.abs(np.arange(k) - at[:, None]) <= radius).sum(1).min()))
    alone = counts[0] * counts[1]
    if circle and queries == keys:  # a corner sees a quarter of the disc
        y, x = np.ogrid[: keys[0], : keys[1]]
        alone = int((y * y + x * x < radius * radius).sum())
    elif circle:
        alone = 0
    return (frames - exempt) * alone + exempt * whole


@triton.jit
def tile_and_sample(tiles):
    """This program's tile, and its sample in int64. Both are on one axis, since the others hold 65,535 programs."""
    return tl.program_id(0) % tiles, (tl.program_id(0) // tiles).to(tl.int64)


@triton.jit
def tile_count(HEIGHT, WIDTH, WINDOW: tl.constexpr, BLOCK: tl.constexpr, SIDE: tl.constexpr):
    """How many tiles a map has: of SIDE x SIDE cells, or without a window of BLOCK consecutive cells."""
    if WINDOW == "none":
        tiles = (HEIGHT * WIDTH + BLOCK - 1) // BLOCK
    else:
        tiles = ((HEIGHT + SIDE - 1) // SIDE) * ((WIDTH + SIDE - 1) // SIDE)
    return tiles


@triton.jit
def tile_cells(tile, HEIGHT, WIDTH, WINDOW: tl.constexpr, BLOCK: tl.constexpr, SIDE: tl.constexpr):
    """The cells of a tile: their index, y, x, and whether they are inside the map."""
    i = tl.arange(0, BLOCK)
    if WINDOW == "none":
        cell = tile * BLOCK + i
        y, x = cell // WIDTH, cell % WIDTH
        inside = cell < HEIGHT * WIDTH
    else:
        across = (WIDTH + SIDE - 1) // SIDE
        y, x = (tile // across) * SIDE + i // SIDE, (tile % across) * SIDE + i % SIDE
        inside = (y < HEIGHT) & (x < WIDTH)
        cell = y * WIDTH + x
    return cell, y, x, inside


@triton.jit
def tile_bounds(bounds_ptr, tile, exempt, HEIGHT, WIDTH, OTHER_H, OTHER_W, WINDOW: tl.constexpr, SIDE: tl.constexpr):
    """The rectangle of the other grid's cells that a tile may see: top, left, rows, columns."""
    if WINDOW == "none":
        top, left, rows, columns = 0, 0, OTHER_H, OTHER_W
    else:
        down, across = (HEIGHT + SIDE - 1) // SIDE, (WIDTH + SIDE - 1) // SIDE
        row_at, column_at = 2 * (tile // across), 2 * (down + tile % across)
        top = tl.where(exempt, 0, tl.load(bounds_ptr + row_at))
        left = tl.where(exempt, 0, tl.load(bounds_ptr + column_at))
        rows = tl.where(exempt, OTHER_H, tl.load(bounds_ptr + row_at + 1) - top + 1)
        columns = tl.where(exempt, OTHER_W, tl.load(bounds_ptr + column_at + 1) - left + 1)
    return top, left, rows, columns


@triton.jit
def near(
    bounds_ptr, ranks_ptr, limit, exempt, y, x, inside, other_y, other_x, HEIGHT, WIDTH, OTHER_H, OTHER_W,
    WINDOW: tl.constexpr, SIDE: tl.constexpr, BY_KEY: tl.constexpr,
):  # fmt: skip
    """(cells, others) bool: which others each cell may see. y, x: of the tile's cells; HEIGHT, WIDTH: their grid's;
    BY_KEY: the tile is of keys."""
    if WINDOW == "none":
        allowed = inside[:, None] & (other_y == other_y)[None, :]
    else:
        down, across = (HEIGHT + SIDE - 1) // SIDE, (WIDTH + SIDE - 1) // SIDE
        row_at, column_at = bounds_ptr + 2 * (down + across) + 2 * y, bounds_ptr + 2 * (down + across + HEIGHT) + 2 * x
        top = tl.load(row_at, mask=inside, other=0)[:, None]
        bottom = tl.load(row_at + 1, mask=inside, other=-1)[:, None]
        left = tl.load(column_at, mask=inside, other=0)[:, None]
        right = tl.load(column_at + 1, mask=inside, other=-1)[:, None]
        oy, ox = other_y[None, :], other_x[None, :]
        allowed = (oy >= top) & (oy <= bottom) & (ox >= left) & (ox <= right)
        if WINDOW == "circle":
            dy, dx = oy - y[:, None], ox - x[:, None]
            allowed = allowed & (dy * dy + dx * dx < limit)
        if WINDOW == "ranks":
            if BY_KEY:
                row, column = oy * HEIGHT + y[:, None], ox * WIDTH + x[:, None]
            else:
                row, column = y[:, None] * OTHER_H + oy, x[:, None] * OTHER_W + ox
            reach = tl.load(ranks_ptr + row, mask=allowed, other=0)
            rank = tl.load(ranks_ptr + HEIGHT * OTHER_H + column, mask=allowed, other=0)
            allowed = allowed & (rank < reach)
        allowed = tl.where(exempt, oy >= 0, allowed) & inside[:, None]
    return allowed
