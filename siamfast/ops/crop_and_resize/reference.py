"""The specification of crop_and_resize: one weight matrix per axis, out = Wy image Wx^T + rest * fill."""

from __future__ import annotations

import math

import torch

# The sampling rules of output cells, and the borders of the image; the numbers are those of the compiled kernels.
RULES = {"pixel": 0, "subpixel": 1, "corner-aligned": 2}
BORDERS = {"constant": 0, "replicate": 1, "reflect": 2}


def border_index(index: int, size: int, border: int) -> int:
    """The pixel of the image for `index`; -1 for the fill. Reflection does not repeat the edge pixel."""
    if 0 <= index < size:
        return index
    if border == BORDERS["constant"]:
        return -1
    if border == BORDERS["replicate"] or size == 1:
        return 0 if index < 0 else size - 1
    phase = index % (2 * (size - 1))
    return min(phase, 2 * (size - 1) - phase)


def axis_taps(corner: float, side: float, count: int, rule: int, antialias: bool) -> list[list[tuple[int, float]]]:
    """For each output cell, the (index, weight) of the pixels that it mixes, before borders are applied.

    A window covers [corner, corner + side); pixel j covers [j, j + 1) and has its value at j, in indices.
    """
    aligned = rule == RULES["corner-aligned"]
    step = ((side - 1) / (count - 1) if count > 1 else 0.0) if aligned else side / count
    # The rule "pixel" cuts the window out before resizing: its taps stop at its own rim.
    low, high = (int(corner), int(corner) + int(side) - 1) if rule == RULES["pixel"] else (-math.inf, math.inf)
    cells = []
    for i in range(count):
        at = corner + i * step if aligned else corner + (i + 0.5) * step - 0.5
        if antialias and step > 1:  # a triangle of half-width `step` around the cell's centre
            begin = max(low, math.floor(at + 0.5 - step + 0.5))
            end = min(high + 1, math.floor(at + 0.5 + step + 0.5))
            taps = [(j, max(0.0, 1 - abs(j - at) / step)) for j in range(int(begin), int(end))]
            total = sum(weight for _, weight in taps)
            cells.append([(j, weight / total) for j, weight in taps])
        else:
            at = min(max(at, low), high)
            left = math.floor(at)
            cells.append([(left, 1 - (at - left)), (int(min(left + 1, high)), at - left)])
    return cells


def axis_matrix(
    corner: float, side: float, count: int, size: int, *, rule: int, border: int, antialias: bool
) -> torch.Tensor:  # (count, size) float64
    """The weights of one axis; a row that reads the fill sums to less than 1."""
    matrix = torch.zeros(count, size, dtype=torch.float64)
    for i, taps in enumerate(axis_taps(corner, side, count, rule, antialias)):
        for index, weight in taps:
            j = border_index(index, size, border)
            if j >= 0:
                matrix[i, j] += weight
    return matrix


def crop_and_resize(
    image: torch.Tensor,  # (N, C, H, W)
    windows: torch.Tensor,  # (M, 4) float64: x, y, width, height in pixels; N = 1 or M
    fill: torch.Tensor,  # (N, C)
    out_height: int,
    out_width: int,
    border: int,
    rule: int,
    antialias: bool,
) -> torch.Tensor:  # (M, C, out_height, out_width)
    """out[m, c] = Wy image[n, c] Wx^T + (1 - sy sx^T) fill[n, c], with s the row sums of W; uint8 is rounded."""
    dtype = image.dtype if image.dtype == torch.float64 else torch.float32
    height, width = image.shape[2:]
    crops = []
    for m, (x, y, w, h) in enumerate(windows.tolist()):
        n = m if image.shape[0] > 1 else 0
        rows = axis_matrix(y, h, out_height, height, rule=rule, border=border, antialias=antialias).to(
            image.device, dtype
        )
        columns = axis_matrix(x, w, out_width, width, rule=rule, border=border, antialias=antialias).to(
            image.device, dtype
        )
        inside = torch.outer(rows.sum(1), columns.sum(1))
        crop = rows @ image[n].to(dtype) @ columns.T
        crops.append(crop + (1 - inside) * fill[n].to(dtype)[:, None, None])
    if not crops:
        return image.new_empty(0, image.shape[1], out_height, out_width)
    out = torch.stack(crops)
    return out.clamp(0, 255).add(0.5).floor().to(torch.uint8) if image.dtype == torch.uint8 else out.to(image.dtype)
