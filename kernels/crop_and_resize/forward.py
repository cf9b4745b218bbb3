"""Triton kernel of crop_and_resize: bilinear windows with the border filled while reading."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _taps(corner, side, i, count, RULE: tl.constexpr):
    """The two pixels around output cell i of an axis and the weight of the second; float64, as the windows are."""
    if RULE == "corner-aligned":
        at = corner + i * ((side - 1) / tl.maximum(count - 1, 1))
    else:
        at = corner + (i + 0.5) * (side / count) - 0.5
    if RULE == "pixel":  # the window is cut out before it is resized
        last = corner + side - 1
        at = tl.minimum(tl.maximum(at, corner), last)
        left = tl.floor(at)
        right = tl.minimum(left + 1, last)
    else:
        left = tl.floor(at)
        right = left + 1
    return left.to(tl.int64), right.to(tl.int64), (at - left).to(tl.float32)


@triton.jit
def _border(index, size, BORDER: tl.constexpr):
    """The pixel that is read for `index`, which may be outside; reflection does not repeat the edge pixel."""
    if BORDER == "reflect":
        period = tl.maximum(2 * (size - 1), 1)
        phase = ((index % period) + period) % period
        index = tl.minimum(phase, period - phase)
    return tl.minimum(tl.maximum(index, 0), size - 1)


@triton.jit
def _pixels(base, y, x, step_y, step_x, height, width, fill, mask, BORDER: tl.constexpr):
    """image[y, x] in float32; with a constant border the fill where (y, x) is outside."""
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    row, column = _border(y, height, BORDER), _border(x, width, BORDER)
    if BORDER == "constant":
        value = tl.load(base + row * step_y + column * step_x, mask=mask & inside, other=0.0).to(tl.float32)
        return tl.where(inside, value, fill)
    return tl.load(base + row * step_y + column * step_x, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def crop_and_resize_kernel(
    image_ptr,  # (N, C, H, W), any strides
    windows_ptr,  # (M, 4) float64: x, y, width, height
    fill_ptr,  # (N, C) float32
    out_ptr,  # (M, C, out_h, out_w), any strides
    channels,
    height,
    width,
    out_height,
    out_width,
    step_n,  # 0 where there is one image for all windows
    step_c,
    step_y,
    step_x,
    fill_step_n,
    out_step_m,
    out_step_c,
    out_step_y,
    out_step_x,
    BORDER: tl.constexpr,  # constant, replicate, reflect
    RULE: tl.constexpr,  # pixel, subpixel, corner-aligned
    WHOLE: tl.constexpr,  # round to whole grey levels (uint8)
    BLOCK: tl.constexpr,
):
    """out[m, c, i, j] = the bilinear value at cell (i, j) of window m.

    One program owns BLOCK cells of one window, all channels: taps and weights are computed once, four pixels are read
    and one written for each channel. Bytes: the pixels under the window (the second and later reads hit the cache)
    and the output.
    """
    # All on one axis of the grid: its others hold 65,535 programs.
    tiles = tl.cdiv(out_height * out_width, BLOCK)
    m = (tl.program_id(0) // tiles).to(tl.int64)
    cells = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    mask = cells < out_height * out_width
    i, j = cells // out_width, cells % out_width
    corner_x, corner_y = tl.load(windows_ptr + m * 4), tl.load(windows_ptr + m * 4 + 1)
    side_x, side_y = tl.load(windows_ptr + m * 4 + 2), tl.load(windows_ptr + m * 4 + 3)
    top, low, share_y = _taps(corner_y, side_y, i.to(tl.float64), out_height, RULE)
    left, right, share_x = _taps(corner_x, side_x, j.to(tl.float64), out_width, RULE)
    base = image_ptr + m * step_n
    target = out_ptr + m * out_step_m + i.to(tl.int64) * out_step_y + j.to(tl.int64) * out_step_x
    for c in range(channels):
        fill = tl.load(fill_ptr + m * fill_step_n + c)
        a = _pixels(base, top, left, step_y, step_x, height, width, fill, mask, BORDER)
        b = _pixels(base, top, right, step_y, step_x, height, width, fill, mask, BORDER)
        d = _pixels(base, low, left, step_y, step_x, height, width, fill, mask, BORDER)
        e = _pixels(base, low, right, step_y, step_x, height, width, fill, mask, BORDER)
        upper = a + (b - a) * share_x
        lower = d + (e - d) * share_x
        value = upper + (lower - upper) * share_y
        if WHOLE:
            value = tl.floor(tl.minimum(tl.maximum(value, 0.0), 255.0) + 0.5)
        tl.store(target, value.to(out_ptr.dtype.element_ty), mask=mask)
        base += step_c
        target += out_step_c
