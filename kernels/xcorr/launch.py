"""Launcher of the full correlation's forward Triton kernels: shapes, grids and configurations."""

from __future__ import annotations

import functools
import math

import torch
from siamfast.kernels import chips, tf32
from siamfast.kernels.integers import cdiv, next_power_of_2
from siamfast.kernels.tuning import tuned
from siamfast.kernels.xcorr.forward import add_parts_kernel, full_forward_kernel

Config = dict[str, int]

# Float32 sums of one G. 64 x 256 are 64 registers a thread of 8 warps, beside what the gather needs; where a template
# takes several Gs one after another, the response's sums stay beside it, and half of that fits. (From the compiler:
# 64 x 512 has 255 registers and spills at 8 warps, and at 16 warps on sm_80 and sm_100.)
MOST_SUMS = 64 * 256
# Programs that fill a large chip; where there are fewer, the channels are split.
PROGRAMS = 128
ADD_BLOCK = 128


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
    """The configuration that runs without tuning. size: bytes of an element; chip: 90 for sm_90; shared: bytes of
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


def forward_candidates(channels: int, size: int) -> list[Config]:
    """What the tuner tries."""
    most = max(16, next_power_of_2(channels))
    return [
        {"BLOCK_C": block, "num_warps": warps, "num_stages": stages}
        for block in sorted({min(most, 64 // size), min(most, 128 // size)})
        for warps in (4, 8)
        for stages in (1, 2, 3, 4)
    ]


def split_of(programs: int, channels: int, block_c: int) -> int:
    """Parts of the channels, from the sizes alone: at least two blocks each, and PROGRAMS programs in all at most,
    since where a multiprocessor runs one at a time a second wave takes as long as the first."""
    return max(1, min(PROGRAMS // programs, channels // (2 * block_c)))


def is_flat(x: torch.Tensor) -> bool:
    """Whether the pixels of a plane are side by side in memory."""
    return x.stride(3) == 1 and x.stride(2) == x.shape[3]


def vector(width: int, height: int, step_c: int, size: int, blocks: Config) -> int:
    """Pixels of a flat plane that one load may read: up to 16 bytes, aligned wherever a program starts."""
    whole = blocks["BAND"] + blocks["TEMPLATE_ROWS"] - 1 >= height  # one start, at 0
    starts = () if whole else (blocks["BAND"] * width, blocks["TEMPLATE_ROWS"] * width)
    return math.gcd(16 // size, height * width, step_c, *starts)


def forward(
    *,
    z: torch.Tensor,  # (Nz, O*C, Hz, Wz)
    x: torch.Tensor,  # (Nx, C, Hx, Wx)
    scale: torch.Tensor | None,  # (1 or O,) float32 contiguous
    bias: torch.Tensor | None,
    scale_constant: float,
    bias_constant: float,
    pad_y: int,
    pad_x: int,
    all_pairs: bool,
    blocks: Config,
) -> torch.Tensor:  # (Nx, O or Nz*O, Ho, Wo), which is not empty
    nz, (nx, channels, height, width), (hz, wz) = z.shape[0], x.shape, z.shape[2:]
    per_template = z.shape[1] // channels
    outputs = per_template * (nz if all_pairs else 1)
    ho, wo = height + 2 * pad_y - hz + 1, width + 2 * pad_x - wz + 1
    tiles = cdiv(ho, blocks["BAND"]) * cdiv(outputs, blocks["KERNELS"])
    out = torch.empty((nx, outputs, ho, wo), dtype=x.dtype, device=x.device)
    end = {"SCALES": 0 if scale is None else scale.numel(), "BIASES": 0 if bias is None else bias.numel()}
    flat = vector(width, height, x.stride(1), x.element_size(), blocks) if is_flat(x) and pad_y == pad_x == 0 else 0
    numbers = (out if scale is None else scale, out if bias is None else bias)
    product = tf32.product_constants(x)

    def run(config: Config) -> torch.Tensor:
        split = split_of(nx * tiles, channels, config["BLOCK_C"])
        to = out if split == 1 else torch.empty((split, *out.shape), dtype=torch.float32, device=x.device)
        full_forward_kernel[(nx, tiles, split)](
            z, x, *numbers, to, scale_constant, bias_constant, nz, nx, *z.stride(), *x.stride(), channels, outputs,
            per_template, ALL_PAIRS=all_pairs, HZ=hz, WZ=wz, HX=height, WX=width, PH=pad_y, PW=pad_x, VECTOR=flat,
            SPLIT=split, **product, **end, **blocks, **config,
        )  # fmt: skip
        if split > 1:
            add_parts_kernel[(nx * outputs, cdiv(ho * wo, ADD_BLOCK))](
                to, *numbers, out, scale_constant, bias_constant, nx * outputs, ho * wo, per_template, **end,
                SPLIT=split, BLOCK=ADD_BLOCK, num_warps=4,
            )  # fmt: skip
        return out

    with torch.cuda.device_of(x):
        size, how = x.element_size(), product["PRECISION"]
        sizes = nz, nx, channels, outputs, hz, wz, height, width, pad_y, pad_x
        key = ("xcorr", x.dtype, how, *sizes, x.stride(1), x.stride(3))
        chip_and_shared = chips.chip_and_shared(x.device)
        default = forward_config(blocks, channels, size, how, *chip_and_shared, wide=flat > 0)
        config = tuned(x, key, default, lambda: forward_candidates(channels, size), run)
        return run(config)
