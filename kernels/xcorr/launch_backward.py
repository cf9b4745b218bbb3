"""Launchers of the full correlation's gradients: shapes, grids and configurations."""

from __future__ import annotations

import torch
from siamfast.kernels import chips, tf32
from siamfast.kernels.chips import MOST_REGISTERS
from siamfast.kernels.integers import MOST_ACROSS, cdiv
from siamfast.kernels.xcorr.backward import gradients_kernel, search_gradient_kernel, template_gradient_kernel

Config = dict[str, int]

# What the second and third axes of the grids hold: cells of a plane or of all templates, 64 at least a program, and
# channels, 32 at least.
MOST_CELLS, MOST_CHANNELS = MOST_ACROSS * 64, MOST_ACROSS * 32
MOST_TAPS = 64  # that a program of both gradients sums


def is_flat(x: torch.Tensor) -> bool:
    """Whether the pixels of a plane are side by side in memory."""
    return x.stride(3) == 1 and x.stride(2) == x.shape[3]


def in_one_launch(taps: int, precision: str) -> bool:
    """Whether one kernel computes both gradients; taps: of all kernels that a search is correlated with.

    The sums of more than 64 taps leave one block a multiprocessor, or spill; exact products spill.
    """
    return taps <= MOST_TAPS and precision != tf32.EXACT


def gradients_config(columns: int, size: int, chip: int) -> Config:
    """The configuration of both gradients; columns: of a template."""
    # No stages where dG can be copied by cp.async, in TF32 and for templates of one column: Triton would pipeline it
    # with one buffer too few, so that a copy overwrites what a product of sm_90 may still read (races.py).
    stages = 3 if size == 2 and columns > 1 else 1
    # Steps of 64 pixels spill on sm_100; 32 channels are too few for 16-byte loads of 2-byte elements by all threads.
    config = {
        "BLOCK_M": MOST_TAPS,
        "BLOCK_Q": 32,
        "BLOCK_C": 64,
        "num_warps": 8,
        "num_stages": stages,
        "maxnreg": MOST_REGISTERS,
    }
    if chip // 10 == 9 and size == 4:
        # Forward and backward of 6 x 6 cells took an H200 23.7 us for 31.9 with the numbers above (8 pairs), and 78.7
        # for 85.5 (64 pairs). Four warps took 23.2, and 70.0 with 64 channels, but of random calls one in six had up to
        # 736 bytes on the stack; contiguous ones of one response without padding still had 8 now and then.
        config |= {"BLOCK_Q": 64, "BLOCK_C": 32}
    return config


def search_config(size: int, precision: str, channels: int, chip: int) -> Config:
    """The configuration of dx; size: bytes of an element. 64 x 64 sums take 8 warps: with 4, addresses spill.

    In float32 the registers are named: else ptxas may put 8 to 24 bytes on the stack for one more block on a
    multiprocessor. Half precision takes steps of 32 taps, which need few registers and no stack by themselves; in steps
    of 64 it had up to 40 bytes, or, named, so many registers that two blocks fit where three did.
    """
    few = precision != tf32.EXACT and channels <= 32
    config = {
        "BLOCK_M": 32 if few or size == 2 else 64,
        "BLOCK_Q": 128 if few and size == 4 else 64,
        "BLOCK_C": 32 if few or precision == tf32.EXACT else 64,
        "num_warps": 8,
        "num_stages": 3 if size == 2 else 2,
    }
    if chip // 10 == 9 and size == 4 and precision != tf32.EXACT:
        # Forward and backward of 2,560 kernels of 4 x 4 cells took an H200 33.6 us for 41.0 with the numbers above, of
        # 17 x 17 cells 228 for 254. 128 pixels and four warps (34.0 and 225) may put 8 bytes on the stack.
        config |= {"BLOCK_M": 32, "BLOCK_Q": 64, "num_stages": 1}
    return config if size == 2 else config | {"maxnreg": MOST_REGISTERS}


def template_config(size: int, precision: str, channels: int, chip: int) -> Config:
    """The configuration of dz; steps of 32 pixels, since longer ones spill where a template has many rows.

    The registers are named in half precision too, where ptxas may put 8 bytes on the stack. A third stage takes an H200
    6.6 us for 7.7 in TF32 (2,560 kernels of 4 x 4 cells).
    """
    third = size == 2 or (chip // 10 == 9 and precision != tf32.EXACT)
    return {
        "BLOCK_M": 64,
        "BLOCK_Q": 32,
        "BLOCK_C": 32 if channels <= 32 or precision == tf32.EXACT else 64,
        "num_warps": 8,
        "num_stages": 3 if third else 2,
        "maxnreg": MOST_REGISTERS,
    }


def both_gradients(
    *,
    grad: torch.Tensor,  # (Nx, O or Nz*O, Ho, Wo) contiguous
    z: torch.Tensor,  # (Nz, O*C, Hz, Wz)
    x: torch.Tensor,  # (Nx, C, Hx, Wx)
    scale: torch.Tensor | None,  # (1 or O,) float32 contiguous
    dz: torch.Tensor,  # (Nz, O*C, Hz, Wz) contiguous, not empty: filled
    dx: torch.Tensor,  # (Nx, C, Hx, Wx), not empty: filled
    scale_constant: float,
    pad_y: int,
    pad_x: int,
    all_pairs: bool,
) -> None:
    """Both gradients, in one launch where the taps fit one program."""
    (nx, channels, height, width), (hz, wz) = x.shape, z.shape[2:]
    product = tf32.product_constants(x)
    if not in_one_launch(grad.shape[1] * hz * wz, product["PRECISION"]):
        search_gradient(
            grad=grad,
            z=z,
            scale=scale,
            dx=dx,
            scale_constant=scale_constant,
            pad_y=pad_y,
            pad_x=pad_x,
            all_pairs=all_pairs,
        )
        template_gradient(
            grad=grad, x=x, dz=dz, scale_constant=scale_constant, pad_y=pad_y, pad_x=pad_x, all_pairs=all_pairs
        )
        return
    templates = 1 if all_pairs else z.shape[0]
    config = gradients_config(wz, x.element_size(), chips.chip_of(x.device))
    with torch.cuda.device_of(x):
        gradients_kernel[(templates, cdiv(channels, config["BLOCK_C"]))](
            grad, z, x, grad if scale is None else scale, dz, dx, scale_constant, templates, nx, *z.stride(),
            *x.stride(), *dx.stride(), channels, grad.shape[1], z.shape[1] // channels, ALL_PAIRS=all_pairs, HZ=hz,
            WZ=wz, HX=height, WX=width, PH=pad_y, PW=pad_x, SCALES=0 if scale is None else scale.numel(),
            FLAT=is_flat(x) and is_flat(dx), **product, **config,
        )  # fmt: skip


def search_gradient(
    *,
    grad: torch.Tensor,  # (Nx, O or Nz*O, Ho, Wo) contiguous
    z: torch.Tensor,  # (Nz, O*C, Hz, Wz)
    scale: torch.Tensor | None,  # (1 or O,) float32 contiguous
    dx: torch.Tensor,  # (Nx, C, Hx, Wx), not empty: filled
    scale_constant: float,
    pad_y: int,
    pad_x: int,
    all_pairs: bool,
) -> None:
    (nx, channels, height, width), product = dx.shape, tf32.product_constants(dx)
    config = search_config(dx.element_size(), product["PRECISION"], channels, chips.chip_of(dx.device))
    grid = (nx, cdiv(height * width, config["BLOCK_Q"]), cdiv(channels, config["BLOCK_C"]))
    with torch.cuda.device_of(dx):
        search_gradient_kernel[grid](
            grad, z, grad if scale is None else scale, dx, scale_constant, z.shape[0], *z.stride(), *dx.stride(),
            channels, grad.shape[1], z.shape[1] // channels, ALL_PAIRS=all_pairs, HZ=z.shape[2], WZ=z.shape[3],
            HX=height, WX=width, PH=pad_y, PW=pad_x, SCALES=0 if scale is None else scale.numel(), FLAT=is_flat(dx),
            **product, **config,
        )  # fmt: skip


def template_gradient(
    *,
    grad: torch.Tensor,  # (Nx, O or Nz*O, Ho, Wo) contiguous
    x: torch.Tensor,  # (Nx, C, Hx, Wx)
    dz: torch.Tensor,  # (Nz, O*C, Hz, Wz) contiguous, not empty: filled
    scale_constant: float,
    pad_y: int,
    pad_x: int,
    all_pairs: bool,
) -> None:
    (nx, channels, height, width), product = x.shape, tf32.product_constants(x)
    config = template_config(x.element_size(), product["PRECISION"], channels, chips.chip_of(x.device))
    taps, templates = grad.shape[1] * dz.shape[2] * dz.shape[3], 1 if all_pairs else dz.shape[0]
    grid = (templates, cdiv(taps, config["BLOCK_M"]), cdiv(channels, config["BLOCK_C"]))
    with torch.cuda.device_of(x):
        template_gradient_kernel[grid](
            grad, x, dz, scale_constant, templates, nx, *x.stride(), channels, grad.shape[1], HZ=dz.shape[2],
            WZ=dz.shape[3], HX=height, WX=width, PH=pad_y, PW=pad_x, FLAT=is_flat(x), **product, **config,
        )  # fmt: skip
