"""Launcher of crop_and_resize's Triton kernel: grid and configuration."""

from __future__ import annotations

import torch
from siamfast.kernels.chips import MOST_REGISTERS
from siamfast.kernels.crop_and_resize.forward import crop_and_resize_kernel
from siamfast.kernels.integers import cdiv

from siamfast.ops.crop_and_resize.reference import BORDERS, RULES

# Cells per program. A cell is a few loads without reuse, so occupancy is all that matters.
BLOCK, NUM_WARPS = 256, 4
# The kernel's modes by the op's numbers.
_BORDER_OF, _RULE_OF = ({number: name for name, number in names.items()} for names in (BORDERS, RULES))


def forward(
    *,
    image: torch.Tensor,  # (N, C, H, W)
    windows: torch.Tensor,  # (M, 4) float64; N = 1 or M
    fill: torch.Tensor,  # (N, C)
    out_height: int,
    out_width: int,
    border: int,  # one of BORDERS
    rule: int,  # one of RULES
    layout: torch.memory_format,
) -> torch.Tensor:  # (M, C, out_height, out_width)
    count, channels = windows.shape[0], image.shape[1]
    out = torch.empty(
        (count, channels, out_height, out_width), dtype=image.dtype, device=image.device, memory_format=layout
    )
    if out.numel() == 0:
        return out
    windows = windows.to(image.device, non_blocking=True).contiguous()
    colors = fill.to(image.device, torch.float32).contiguous()
    one_image = image.shape[0] == 1
    grid = (cdiv(out_height * out_width, BLOCK) * count,)
    with torch.cuda.device_of(image):
        crop_and_resize_kernel[grid](
            image,
            windows,
            colors,
            out,
            channels,
            image.shape[2],
            image.shape[3],
            out_height,
            out_width,
            0 if one_image else image.stride(0),
            *image.stride()[1:],
            0 if one_image else channels,
            *out.stride(),
            BORDER=_BORDER_OF[border],
            RULE=_RULE_OF[rule],
            WHOLE=image.dtype == torch.uint8,
            BLOCK=BLOCK,
            num_warps=NUM_WARPS,
            maxnreg=MOST_REGISTERS,  # else 8 bytes may be on the stack, for one more block on a multiprocessor
            enable_fp_fusion=False,
        )
    return out
