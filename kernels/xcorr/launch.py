"""Blocks and configurations of the full correlation on the chip."""

from __future__ import annotations

import functools
import math

import torch
from siamfast.kernels import chips, tf32
from siamfast.kernels.integers import cdiv, next_power_of_2

Config = dict[str, int]

# Float32 sums of one G. 64 x 256 are 64 registers a thread of 8 warps, beside what the gather needs; where a template
# takes several Gs one after another, the response's sums stay beside it, and half of that fits. (From the compiler:
# 64 x 512 has 255 registers and spills at 8 warps, and at 16 warps on sm_80 and sm_100.)
MOST_SUMS = 64 * 256


@functools.lru_cache(maxsize=1024)
def forward_blocks(hz: int, wz: int, height: int, width: int, outputs: int, precision: str) -> Config | None:
    """How the response is divided (read only); height, width: of the padded search. None if a row of G is too long."""
    one_grid = MOST_SUMS // 2 if precision == tf32.EXACT else MOST_SUMS
    rows = min(hz, max(1, 64 // wz))
    most = one_grid if rows == hz and hz * wz > 1 else one_grid // 2
    while rows > 1 and next_power_of_2(rows * wz) * next_power_of_2(rows * width) > most:
        rows, most = rows - 1, one_grid // 2
    taps = next_power_of_2(rows * wz)
    kernels = max(1, 16 // taps)
    while kernels * taps < 64 and kernels < outputs:
        kernels *= 2
    wanted = height - hz + rows  # all rows of the response at once
    cells = next_power_of_2(wanted * width)
    while kernels * taps * cells > most and cells > 16 and cells // 2 >= rows * width:
        cells //= 2
    cells = max(cells, 16)
    if kernels * taps * cells > most or cells < rows * width:
        return None
    band = min(height - hz + 1, cells // width - rows + 1)
    bands = cdiv(height - hz + 1, band)
    # Among the bands that make equally many programs, one whose start allows wide loads.
    band = max(range(cdiv(height - hz + 1, bands), band + 1), key=lambda rows: (math.gcd(8, rows * width), rows))
    return {"TEMPLATE_ROWS": rows, "BAND": band, "KERNELS": kernels, "TAPS": taps, "BLOCK_Q": cells}


def forward_config(
    blocks: Config, channels: int, size: int, precision: str, chip: int, shared: int, *, wide: bool = True
) -> Config:
    """The configuration. size: bytes of an element; chip: 90 for sm_90; shared: bytes of
    shared memory that a block may have, of which the channels of one step must leave some; wide: whether x is read
    several pixels at a time."""
    block_c = min(max(16, next_power_of_2(channels)), 128 // size)
    rows = blocks["KERNELS"] * blocks["TAPS"] + blocks["BLOCK_Q"]  # 1 x 8 taps on 1,024 cells: 128 KiB of 64 channels
    while block_c > 16 and block_c * size * rows > shared:
        block_c //= 2
    sums = blocks["KERNELS"] * blocks["TAPS"] * blocks["BLOCK_Q"]
    large = sums >= MOST_SUMS // (4 if precision == tf32.EXACT else 2)
    # On sm_90 and 100 TF32 wants the channels of x side by side in shared memory: a pipelined copy goes there 4 bytes
    # at a time. Without stages x passes through registers in 16-byte loads, and a second program hides the wait.
    stages = 1 if size == 4 and chips.multiplies_from_shared(chip) else 2
    warps = 8 if large else 4
    # Each thread has a place for every pixel that it reads by itself: with 256 bytes of them ptxas gave up and kept
    # 4 KiB on the stack (1 x 8 taps on 39 x 18 pixels, columns side by side, float16, Triton 3.6 for sm_90).
    while not wide and block_c > 16 and block_c * blocks["BLOCK_Q"] * size > 128 * 32 * warps:
        block_c //= 2
    return {"BLOCK_C": block_c, "num_warps": warps, "num_stages": stages}


def is_flat(x: torch.Tensor) -> bool:
    """Whether the pixels of a plane are side by side in memory."""
    return x.stride(3) == 1 and x.stride(2) == x.shape[3]


def vector(width: int, height: int, step_c: int, size: int, blocks: Config) -> int:
    """Pixels of a flat plane that one load may read: up to 16 bytes, aligned wherever a program starts."""
    whole = blocks["BAND"] + blocks["TEMPLATE_ROWS"] - 1 >= height  # one start, at 0
    starts = () if whole else (blocks["BAND"] * width, blocks["TEMPLATE_ROWS"] * width)
    return math.gcd(16 // size, height * width, step_c, *starts)
