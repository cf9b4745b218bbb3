"""Launchers of the joint correlation and loss's Triton kernels: blocks, grids and configurations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from siamfast.kernels import chips, tf32
from siamfast.kernels.balanced_logistic_loss.launch import loss_modes, loss_numbers
from siamfast.kernels.integers import cdiv, next_power_of_2
from siamfast.kernels.xcorr.launch import forward_blocks, forward_config, is_flat, vector
from siamfast.kernels.xcorr.launch_backward import gradients_config
from siamfast.kernels.xcorr_balanced_loss.backward import scale_samples_kernel
from siamfast.kernels.xcorr_balanced_loss.forward import xcorr_balanced_loss_kernel

from siamfast.ops.balanced_logistic_loss.call import Options

SCALE_BLOCK = 4096


def config(
    hz: int, wz: int, height: int, width: int, channels: int, size: int, product: str, chip: int, shared: int
) -> dict[str, int] | None:
    """How a sample is divided; height, width: of the padded search. None if a template or a response is too large."""
    blocks = forward_blocks(hz, wz, height, width, 1, product)
    both = gradients_config(hz * wz, size, product, wide=True)
    cells = next_power_of_2((height - hz + 1) * (width - wz + 1))
    if blocks is None or both is None or blocks["TEMPLATE_ROWS"] < hz or both["BLOCK_M"] > 64 or cells > 4096:
        return None
    forward = forward_config(blocks, channels, size, product, chip, shared)
    channels_at_once = forward["BLOCK_C"] if chips.multiplies_from_shared(chip) else 16  # more spill
    return {
        **{name: blocks[name] for name in ("TEMPLATE_ROWS", "BAND", "KERNELS", "TAPS")},
        "FORWARD_Q": blocks["BLOCK_Q"], "FORWARD_C": channels_at_once,
        "CELLS": cells,
        **{name: both[name] for name in ("BLOCK_M", "BLOCK_Q", "BLOCK_C")},
        "num_warps": 8, "num_stages": forward["num_stages"],
    }  # fmt: skip


def config_of(z: torch.Tensor, x: torch.Tensor, pad_y: int, pad_x: int) -> dict[str, int] | None:
    """`config` for these tensors."""
    sizes = *z.shape[2:], x.shape[2] + 2 * pad_y, x.shape[3] + 2 * pad_x
    return config(*sizes, x.shape[1], x.element_size(), tf32.precision(x), *chips.chip_and_shared(x.device))


class Results(NamedTuple):
    """The joint launch's outputs beside dx."""

    sums: torch.Tensor  # (3, N) float32: per sample the loss, its slope by the bias and by the scale
    scores: torch.Tensor  # (N, 1, Ho, Wo) float32
    dz: torch.Tensor  # like z


def forward(
    *,
    z: torch.Tensor,  # (N, C, Hz, Wz)
    x: torch.Tensor,  # (N, C, Hx, Wx), not empty
    scale: torch.Tensor | None,  # 1 float32 number
    bias: torch.Tensor | None,
    scale_constant: float,
    bias_constant: float,
    pad_y: int,
    pad_x: int,
    labels: torch.Tensor | None,  # (N or 1, Ho, Wo) float32
    centers: torch.Tensor | None,  # (N, 2) float32
    options: Options,
    dx: torch.Tensor,  # as x: filled
) -> Results:
    samples, channels, height, width = x.shape
    hz, wz = z.shape[2:]
    ho, wo = height + 2 * pad_y - hz + 1, width + 2 * pad_x - wz + 1
    scores, slope = torch.empty((2, samples, 1, ho, wo), dtype=torch.float32, device=x.device)
    sums = torch.empty((3, samples), dtype=torch.float32, device=x.device)
    dz = torch.empty(z.shape, dtype=z.dtype, device=z.device)
    chosen = config_of(z, x, pad_y, pad_x)
    assert chosen is not None
    blocks = chosen | {"BLOCK_Q": chosen["FORWARD_Q"]}
    wide = vector(width, height, x.stride(1), x.element_size(), blocks) if is_flat(x) and pad_y == pad_x == 0 else 0
    with torch.cuda.device_of(x):
        xcorr_balanced_loss_kernel[(samples,)](
            z, x, scores if scale is None else scale, scores if bias is None else bias,
            scores if labels is None else labels.contiguous(), scores if centers is None else centers.contiguous(),
            scores, slope, sums, dz, dx, samples, scale_constant, bias_constant, *loss_numbers(options, samples),
            *z.stride(), *x.stride(), *dx.stride(), channels, HZ=hz, WZ=wz, HX=height, WX=width, PH=pad_y, PW=pad_x,
            SCALE=scale is not None, BIAS=bias is not None, **loss_modes(options, labels, centers),
            FLAT=is_flat(x) and is_flat(dx), VECTOR=wide, **tf32.product_constants(x), **chosen,
        )  # fmt: skip
    return Results(sums, scores, dz)


def scale_samples(data: torch.Tensor, grad: torch.Tensor) -> None:
    """Multiplies each sample by its number, in place; data: (N, ...) dense, by samples; grad: (N,) float32."""
    count = data[0].numel()
    with torch.cuda.device_of(data):
        scale_samples_kernel[(len(data), cdiv(count, SCALE_BLOCK))](data, grad, count, BLOCK=SCALE_BLOCK)
