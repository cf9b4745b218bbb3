"""Triton kernels of augment: two small matrix products per tile do geometry and blur in one pass."""

from __future__ import annotations

import triton
import triton.language as tl

_DRAWS = tl.constexpr(14)
_SAMPLES = tl.constexpr(1024)


@triton.jit
def _axis(first, count, at, step, support, BLOCK: tl.constexpr):
    """Centers of cells first .. first + BLOCK - 1 of an axis, in pixels, and the first pixel that any of them needs."""
    middle = at - 0.5 * tl.cast(count - 1, tl.float32) * step
    ends = first.to(tl.float32) * step + middle
    other = (first + BLOCK - 1).to(tl.float32) * step + middle
    place = (first + tl.arange(0, BLOCK)).to(tl.float32) * step + middle
    return place, tl.floor(tl.minimum(ends, other) - support).to(tl.int32)


@triton.jit
def _weights(pixels, place, support, blur):
    """(BLOCK, P): what each pixel (P,) weighs for each place (BLOCK,), not normalized."""
    away = pixels[None, :].to(tl.float32) - place[:, None]
    # Only scalars are divided: a division per weight would be a third of the kernel's arithmetic.
    sharp, rate = 1 / support, 1 / tl.maximum(blur, 0.5)
    soft = tl.exp(away * away * (-0.5 * rate * rate)) - 0.011108996538242306  # exp(-4.5)
    return tl.maximum(tl.where(blur > 0, soft, 1 - tl.abs(away) * sharp), 0.0)


@triton.jit
def augment_means_kernel(
    image_ptr,  # (N, 3, H, W) uint8, any strides
    means_ptr,  # (N, 3) float32
    height,
    width,
    step_n,
    step_c,
    step_y,
    step_x,
):
    """means[n, c] = the mean of every 8th pixel of every 8th row. One program owns one plane.

    A launch of its own: when each of the 64 tiles of an image read these pixels, they were more than its own.
    """
    plane = tl.program_id(0).to(tl.int64)
    base = image_ptr + plane // 3 * step_n + plane % 3 * step_c
    columns = (width + 7) // 8
    count = (height + 7) // 8 * columns
    total = tl.zeros((_SAMPLES,), tl.float32)
    for start in range(0, count, _SAMPLES):
        k = start + tl.arange(0, _SAMPLES)
        # In int64, as below: a large image's offsets are beyond int32.
        place = (k // columns * 8).to(tl.int64) * step_y + (k % columns * 8).to(tl.int64) * step_x
        total += tl.load(base + place, mask=k < count, other=0).to(tl.float32)
    tl.store(means_ptr + plane, tl.sum(total, 0) / count)


@triton.jit
def _down(near, rest, plane, total, EXACT: tl.constexpr):
    """total + rows (BLOCK, P) plane (P, Q) in half precision: levels are exact in it, a weight is off by 2^-12 at most,
    0.1 levels in all. Exact: a second product of the rest, which the weights were rounded by."""
    levels = plane.to(tl.float16)
    total = tl.dot(near, levels, total)
    if EXACT:
        total = tl.dot(rest, levels, total)
    return total


@triton.jit
def _across(lines, near, rest, beside, mean, EXACT: tl.constexpr):
    """lines (BLOCK, Q) columns (BLOCK, Q)^T likewise; outside the image its mean is taken."""
    halves = lines.to(tl.float16)
    total = tl.dot(halves, tl.trans(near), beside * mean)
    if EXACT:
        total = tl.dot((lines - halves.to(tl.float32)).to(tl.float16), tl.trans(near), total)
        total = tl.dot(halves, tl.trans(rest), total)
    return total


@triton.jit
def _noise(seed, place):
    """Noise of variance 1: the sum of the four bytes of a hash of seed and place."""
    bits = seed * 0x9E3779B1 + place
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6B
    bits = (bits ^ (bits >> 13)) * 0xC2B2AE35
    bits = bits ^ (bits >> 16)
    total = (bits & 255) + ((bits >> 8) & 255) + ((bits >> 16) & 255) + (bits >> 24)
    return (total.to(tl.float32) - 510) * 0.006765875  # 1 / sqrt((256^2 - 1) / 3)


@triton.jit
def augment_kernel(
    image_ptr,  # (N, 3, H, W) uint8, any strides
    draws_ptr,  # (N, 14) float32
    means_ptr,  # (N, 3) float32
    out_ptr,  # (N, h, w, 3) contiguous
    height,
    width,
    out_height,
    out_width,
    step_n,
    step_c,
    step_y,
    step_x,
    mean_r,
    mean_g,
    mean_b,
    rate_r,  # 1 / std
    rate_g,
    rate_b,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PIXELS_Y: tl.constexpr,  # at least the pixels that a tile needs along an axis
    PIXELS_X: tl.constexpr,
    STRIP: tl.constexpr,  # rows of the image that are read at once
    EXACT: tl.constexpr,  # whether products are as exact as float32's
):
    """out[n, i, j] = normalized(clamp(color(Wy image Wx^T + (1 - inside) mean) + noise)).

    One program owns ROWS x COLUMNS cells of an image, all channels: it reads the PIXELS_Y x PIXELS_X pixels under them
    once, strip by strip, and multiplies by the weights of both axes; blur and step only change the weights.
    Bytes: the image, 2 to 4 times from L2, and the output.
    """
    # All on one axis of the grid: its others hold 65,535 programs.
    across, down = tl.cdiv(out_width, COLUMNS), tl.cdiv(out_height, ROWS)
    tile, n = tl.program_id(0) % (across * down), (tl.program_id(0) // (across * down)).to(tl.int64)
    top, left = tile // across * ROWS, tile % across * COLUMNS
    draw = draws_ptr + n * _DRAWS
    blur, step_v, step_u = tl.load(draw + 4), tl.load(draw + 3), tl.load(draw + 2)
    support_v = tl.where(blur > 0, 3 * blur, tl.maximum(1.0, tl.abs(step_v)))
    support_u = tl.where(blur > 0, 3 * blur, tl.maximum(1.0, tl.abs(step_u)))
    v, y_first = _axis(top, out_height, tl.load(draw + 1), step_v, support_v, ROWS)
    u, x_first = _axis(left, out_width, tl.load(draw), step_u, support_u, COLUMNS)
    base, means = image_ptr + n * step_n, means_ptr + n * 3
    r_mean, g_mean, b_mean = tl.load(means), tl.load(means + 1), tl.load(means + 2)

    x = x_first + tl.arange(0, PIXELS_X)
    total, inside = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
    r_lines = tl.zeros((ROWS, PIXELS_X), tl.float32)
    g_lines = tl.zeros((ROWS, PIXELS_X), tl.float32)
    b_lines = tl.zeros((ROWS, PIXELS_X), tl.float32)
    for strip in range(0, PIXELS_Y, STRIP):
        y = y_first + strip + tl.arange(0, STRIP)
        rows = _weights(y, v, support_v, blur)
        total += tl.sum(rows, 1)
        rows = tl.where(((y >= 0) & (y < height))[None, :], rows, 0.0)
        inside += tl.sum(rows, 1)
        near = rows.to(tl.float16)
        rest = (rows - near.to(tl.float32)).to(tl.float16) if EXACT else near
        here = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None, :]
        places = (base + y.to(tl.int64) * step_y)[:, None] + (x.to(tl.int64) * step_x)[None, :]
        r_lines = _down(near, rest, tl.load(places, mask=here, other=0), r_lines, EXACT)
        g_lines = _down(near, rest, tl.load(places + step_c, mask=here, other=0), g_lines, EXACT)
        b_lines = _down(near, rest, tl.load(places + step_c + step_c, mask=here, other=0), b_lines, EXACT)
    scale = 1 / total
    columns = _weights(x, u, support_u, blur)
    columns = columns * (1 / tl.sum(columns, 1))[:, None]
    columns = tl.where(((x >= 0) & (x < width))[None, :], columns, 0.0)
    beside = 1 - (inside * scale)[:, None] * tl.sum(columns, 1)[None, :]
    near = columns.to(tl.float16)
    rest = (columns - near.to(tl.float32)).to(tl.float16) if EXACT else near
    r = _across(r_lines * scale[:, None], near, rest, beside, r_mean, EXACT)
    g = _across(g_lines * scale[:, None], near, rest, beside, g_mean, EXACT)
    b = _across(b_lines * scale[:, None], near, rest, beside, b_mean, EXACT)
    i, j = top + tl.arange(0, ROWS)[:, None], left + tl.arange(0, COLUMNS)[None, :]
    row, column = i.to(tl.float32), j.to(tl.float32)
    cut = (column >= tl.load(draw + 10)) & (row >= tl.load(draw + 11))
    cut = cut & (column < tl.load(draw + 12)) & (row < tl.load(draw + 13))
    r, g, b = tl.where(cut, r_mean, r), tl.where(cut, g_mean, g), tl.where(cut, b_mean, b)

    brightness, contrast, saturation = tl.load(draw + 5), tl.load(draw + 6), tl.load(draw + 7)
    gray = 0.299 * r + 0.587 * g + 0.114 * b
    pivot = (1 - contrast) * (0.299 * r_mean + 0.587 * g_mean + 0.114 * b_mean)
    r = brightness * (contrast * (gray + saturation * (r - gray)) + pivot)
    g = brightness * (contrast * (gray + saturation * (g - gray)) + pivot)
    b = brightness * (contrast * (gray + saturation * (b - gray)) + pivot)
    sigma = tl.load(draw + 8)
    if sigma > 0:
        seed = tl.load(draw + 9).to(tl.uint32)
        place, plane = (i * out_width + j).to(tl.uint32), tl.cast(out_height * out_width, tl.uint32)
        r += sigma * _noise(seed, place)
        g += sigma * _noise(seed, place + plane)
        b += sigma * _noise(seed, place + 2 * plane)
    r = (tl.minimum(tl.maximum(r, 0.0), 255.0) - mean_r) * rate_r
    g = (tl.minimum(tl.maximum(g, 0.0), 255.0) - mean_g) * rate_g
    b = (tl.minimum(tl.maximum(b, 0.0), 255.0) - mean_b) * rate_b
    # One store for all channels: a store per channel would touch the same sectors three times.
    pixels = tl.join(tl.join(r, g), tl.join(b, b))  # [.., k, l]: channel k + 2 l
    pixels = tl.reshape(tl.permute(pixels, (0, 1, 3, 2)), (ROWS, 4 * COLUMNS))
    quarter = tl.arange(0, 4 * COLUMNS)[None, :]
    j, channel = left + quarter // 4, quarter % 4
    target = out_ptr + ((n * out_height + i) * out_width + j) * 3 + channel
    mask = (i < out_height) & (j < out_width) & (channel < 3)
    tl.store(target, pixels.to(out_ptr.dtype.element_ty), mask=mask)
