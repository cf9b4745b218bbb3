"""The `torch` backend of crop_and_resize: four gathers, or two matrix products with a filter."""

from __future__ import annotations

import torch

from siamfast.ops.crop_and_resize import reference
from siamfast.ops.crop_and_resize.call import Border, CropCall, Rule


def forward(call: CropCall) -> torch.Tensor:  # (M, C, height, width)
    image, windows, fill, options = call
    out_height, out_width, border, rule, antialias = options
    if antialias and bool((windows[:, 2] > out_width).any() or (windows[:, 3] > out_height).any()):
        return reference.crop_and_resize(image, windows, fill, *options)
    compute = image.dtype if image.dtype == torch.float64 else torch.float32
    windows = windows.to(image.device)
    height, width = image.shape[2:]
    count = windows.shape[0]
    ys, wy = _taps(windows[:, 1], windows[:, 3], out_height, rule)  # (M, 2, out_height)
    xs, wx = _taps(windows[:, 0], windows[:, 2], out_width, rule)
    ys, in_y = _border(ys, height, border)
    xs, in_x = _border(xs, width, border)
    # One image: an index of 0 broadcasts over the windows.
    number = torch.arange(count, device=image.device).clamp_max(image.shape[0] - 1)[:, None, None]
    colors = fill.to(compute)[number[:, 0, 0]][:, None, None, :]  # (M, 1, 1, C)
    out = torch.zeros(count, out_height, out_width, image.shape[1], dtype=compute, device=image.device)
    for i in range(2):
        for j in range(2):
            pixels = image[number, :, ys[:, i, :, None], xs[:, j, None, :]].to(compute)  # (M, out_h, out_w, C)
            if border == Border.CONSTANT:
                inside = (in_y[:, i, :, None] & in_x[:, j, None, :])[..., None]
                pixels = torch.where(inside, pixels, colors)
            out = out + pixels * (wy[:, i, :, None] * wx[:, j, None, :]).to(compute)[..., None]
    out = out.permute(0, 3, 1, 2)
    return out.clamp(0, 255).add(0.5).floor().to(torch.uint8) if image.dtype == torch.uint8 else out.to(image.dtype)


def _taps(corner: torch.Tensor, side: torch.Tensor, count: int, rule: int) -> tuple[torch.Tensor, torch.Tensor]:
    """corner, side: (M,) -> indices (M, 2, count) int64 and weights (M, 2, count) of the two taps of each cell."""
    cells = torch.arange(count, dtype=torch.float64, device=corner.device)
    corner, side = corner[:, None], side[:, None]
    if rule == Rule.CORNER_ALIGNED:
        at = corner + cells * ((side - 1) / max(count - 1, 1)) * (count > 1)
    else:
        at = corner + (cells + 0.5) * (side / count) - 0.5
    if rule == Rule.PIXEL:
        last = corner + side - 1
        at = torch.minimum(torch.maximum(at, corner), last)
        left = torch.floor(at)
        right = torch.minimum(left + 1, last)
    else:
        left = torch.floor(at)
        right = left + 1
    share = at - left
    return torch.stack((left, right), 1).long(), torch.stack((1 - share, share), 1)


def _border(index: torch.Tensor, size: int, border: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The pixel for each index, and whether the index is inside the image."""
    inside = (index >= 0) & (index < size)
    if border == Border.REFLECT and size > 1:
        phase = torch.remainder(index, 2 * (size - 1))
        index = torch.minimum(phase, 2 * (size - 1) - phase)
    return index.clamp(0, size - 1), inside
