"""Triton kernel of the balanced logistic loss: labels, weights, loss and slope in one launch, no float atomics."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def made_labels(dy, dx, stride, r_pos, r_far, between, L2: tl.constexpr):
    """1 within r_pos input pixels of the center, 0 beyond r_far, else `between`; dy, dx: cells from the centre."""
    if L2:
        away = tl.sqrt_rn(dx * dx + dy * dy)
    else:
        away = tl.abs(dx) + tl.abs(dy)
    distance = away * stride
    return tl.where(distance <= r_pos, 1.0, tl.where(distance <= r_far, between, 0.0))


@triton.jit
def class_weights(positives, negatives, samples, neg_weight, factor, BALANCE: tl.constexpr):
    """Weights of a positive and of a negative cell, by the counts of both: per sample, or of the whole batch."""
    if BALANCE == "sample":
        positive = 0.5 / tl.maximum(positives, 1.0)
        negative = 0.5 * neg_weight / tl.maximum(negatives, 1.0)
    else:
        if BALANCE == "batch":
            positive = 1.0 / tl.maximum(positives, 1.0)
            negative = neg_weight / tl.maximum(negatives, 1.0)
            share = tl.where(positives > 0, 1.0, 0.0) + tl.where(negatives > 0, neg_weight, 0.0)
        else:
            positive = 1.0 + 0.0 * positives  # of the shape of positives
            negative = neg_weight + 0.0 * negatives
            share = positives + neg_weight * negatives
        share = samples / tl.where(share > 0, share, 1.0)
        positive *= share
        negative *= share
    return positive * factor, negative * factor


@triton.jit
def cell_losses(s, y, positive, negative, neutral):
    """Weighted loss of scores s with labels y, and its slope; 0 where a cell weighs nothing, even where s is NaN."""
    w = tl.where(y == 1.0, positive, tl.where(y == 0.0, negative, tl.where((y > 0.0) & (y < 1.0), neutral, 0.0)))
    e = tl.exp(-tl.abs(s))
    # log(1 + e) as e - e^2 / 2 + e^3 R(e), so that it is e where e is small;
    # R as in csrc/balanced_logistic_loss/kernels.inl.
    r = 0.0022777667 * e - 0.0146890557
    r = r * e + 0.0443127330
    r = r * e - 0.0859351974
    r = r * e + 0.1268075553
    r = r * e - 0.1622889022
    r = r * e + 0.1992646231
    r = r * e - 0.2499332773
    r = r * e + 0.3333309359
    # max(s, 0) - s * y, and sigmoid(s) - y, without subtracting numbers that are nearly equal.
    wrong = tl.where(s > 0.0, 1.0 - y, 0.0 - y)
    loss = wrong * s + (e - 0.5 * e * e + e * e * e * r)
    small = e / (1.0 + e)
    slope = tl.where(s > 0.0, wrong - small, wrong + small)
    return tl.where(w != 0.0, w * loss, 0.0), tl.where(w != 0.0, w * slope, 0.0)


@triton.jit
def _tile_labels(
    labels_ptr, centers_ptr, n, k, samples, stride, r_pos, r_far, between, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
    LABELS: tl.constexpr, CENTERS: tl.constexpr, L2: tl.constexpr,
):  # fmt: skip
    """(rows, cells): labels of samples n and cells k; outside -1, which weighs nothing."""
    inside = (n < samples)[:, None] & (k < HEIGHT * WIDTH)[None, :]
    if LABELS == "made":
        if CENTERS:
            cx = tl.load(centers_ptr + 2 * n, mask=n < samples, other=0.0)[:, None]
            cy = tl.load(centers_ptr + 2 * n + 1, mask=n < samples, other=0.0)[:, None]
        else:
            cx = (WIDTH - 1) * 0.5
            cy = (HEIGHT - 1) * 0.5
        dy = (k // WIDTH).to(tl.float32)[None, :] - cy
        dx = (k % WIDTH).to(tl.float32)[None, :] - cx
        y = made_labels(dy, dx, stride, r_pos, r_far, between, L2)
    else:
        at = k[None, :] + (n * 0 if LABELS == "shared" else n)[:, None].to(tl.int64) * (HEIGHT * WIDTH)
        y = tl.load(labels_ptr + at, mask=inside, other=-1.0)
    return tl.where(inside, y, -1.0)


@triton.jit
def balanced_logistic_loss_kernel(
    scores_ptr,  # (samples, HEIGHT, WIDTH) contiguous
    labels_ptr,  # (samples or 1, HEIGHT, WIDTH) float32 contiguous
    centers_ptr,  # (samples, 2) float32 contiguous: x, y in cells
    losses_ptr,  # float32: 1 number with TOTAL, else one per sample
    slope_ptr,  # (samples, HEIGHT, WIDTH) float32 contiguous
    samples,
    tiles,  # per program
    stride,
    r_pos,
    r_far,
    between,
    neg_weight,
    neutral,  # weight of neutral cells
    factor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    LABELS: tl.constexpr,  # made: here; shared: one map for all samples; own: one per sample
    CENTERS: tl.constexpr,
    L2: tl.constexpr,
    BALANCE: tl.constexpr,  # sample, batch, cells
    TOTAL: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program owns `tiles` tiles of ROWS samples: one pass counts labels, the next weighs cells. Bytes: scores and
    slope once."""
    CELLS: tl.constexpr = HEIGHT * WIDTH
    first = tl.program_id(0) * tiles
    rows = tl.arange(0, ROWS)
    positives = tl.zeros((ROWS,), tl.float32)
    negatives = tl.zeros((ROWS,), tl.float32)
    if BALANCE != "sample":
        # Labels of all samples; where they share one map, those of one sample are enough.
        count = tl.cdiv(1 if LABELS == "shared" or (LABELS == "made" and not CENTERS) else samples, ROWS)
        for tile in range(count):
            n = tile * ROWS + rows
            for start in range(0, CELLS, BLOCK):
                y = _tile_labels(
                    labels_ptr, centers_ptr, n, start + tl.arange(0, BLOCK), samples, stride, r_pos, r_far, between,
                    HEIGHT, WIDTH, LABELS, CENTERS, L2,
                )  # fmt: skip
                if LABELS == "shared" or (LABELS == "made" and not CENTERS):
                    y = tl.where((n == 0)[:, None], y, -1.0)
                positives += tl.sum((y == 1.0).to(tl.float32), 1)
                negatives += tl.sum((y == 0.0).to(tl.float32), 1)
        times = 1.0
        if LABELS == "shared" or (LABELS == "made" and not CENTERS):
            times = tl.cast(samples, tl.float32)
        positives = tl.zeros((ROWS,), tl.float32) + tl.sum(positives, 0) * times
        negatives = tl.zeros((ROWS,), tl.float32) + tl.sum(negatives, 0) * times
    total = tl.zeros((ROWS,), tl.float32)
    for tile in range(first, first + tiles):
        n = tile * ROWS + rows
        if BALANCE == "sample":
            positives = tl.zeros((ROWS,), tl.float32)
            negatives = tl.zeros((ROWS,), tl.float32)
            for start in range(0, CELLS, BLOCK):
                y = _tile_labels(
                    labels_ptr, centers_ptr, n, start + tl.arange(0, BLOCK), samples, stride, r_pos, r_far, between,
                    HEIGHT, WIDTH, LABELS, CENTERS, L2,
                )  # fmt: skip
                positives += tl.sum((y == 1.0).to(tl.float32), 1)
                negatives += tl.sum((y == 0.0).to(tl.float32), 1)
        positive, negative = class_weights(positives, negatives, samples, neg_weight, factor, BALANCE)
        losses = tl.zeros((ROWS,), tl.float32)
        for start in range(0, CELLS, BLOCK):
            k = start + tl.arange(0, BLOCK)
            y = _tile_labels(
                labels_ptr, centers_ptr, n, k, samples, stride, r_pos, r_far, between, HEIGHT, WIDTH, LABELS, CENTERS,
                L2,
            )  # fmt: skip
            at = n.to(tl.int64)[:, None] * CELLS + k[None, :]
            inside = (n < samples)[:, None] & (k < CELLS)[None, :]
            s = tl.load(scores_ptr + at, mask=inside, other=0.0).to(tl.float32)
            loss, slope = cell_losses(s, y, positive[:, None], negative[:, None], neutral * factor)
            tl.store(slope_ptr + at, slope, mask=inside)
            losses += tl.sum(loss, 1)
        if TOTAL:
            total += losses
        else:
            tl.store(losses_ptr + n, losses, mask=n < samples)
    if TOTAL:
        tl.store(losses_ptr + tl.zeros((1,), tl.int32), tl.sum(total, 0) + tl.zeros((1,), tl.float32))
