"""The specification of augment: out = (noise + colour(Wy image Wx^T + rest * mean) - mean) / std."""

from __future__ import annotations

import math

import torch

# The columns of `draws`. x, y: the source pixel (centres are whole numbers) at the middle of the output. step_x,
# step_y: source pixels per output pixel; a negative step mirrors. blur: sigma of a Gaussian, source pixels. brightness,
# contrast, saturation: factors, 1 for no change. noise: sigma, grey levels. seed: of the noise. left, top, right,
# bottom: edges of the cut-out, output pixels.
COLUMNS = (
    "x", "y", "step_x", "step_y", "blur", "brightness", "contrast", "saturation", "noise", "seed", "left", "top",
    "right", "bottom",
)  # fmt: skip
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in OpenCV's and PIL's gray
MEAN_STEP = 8  # the mean is over every 8th pixel of every 8th row: as good for a pivot, without a separate pass
_REACH = 10  # no weight is further away than 3 sigma of the widest blur


def axis_weight(away: torch.Tensor, step: float, blur: float) -> torch.Tensor:
    """Weight, not normalised, of a pixel at distance `away` from an output pixel's place: a triangle as wide as a step
    (bilinear up to a step of 1), or the Gaussian minus its height at 3 sigma. Both fall to 0 without a jump."""
    if blur > 0:
        return (torch.exp(-0.5 * (away / blur) ** 2) - math.exp(-4.5)).clamp_min(0)
    return (1 - away.abs() / max(1.0, abs(step))).clamp_min(0)


def axis_matrix(at: float, step: float, blur: float, count: int, size: int) -> torch.Tensor:
    """(count, size) float64: weights of the image's pixels; a row that reaches outside the image sums to less than
    1."""
    place = at + (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * step
    near = place.floor()[:, None] + torch.arange(-_REACH, _REACH + 1)
    total = axis_weight(near - place[:, None], step, blur).sum(1, keepdim=True)
    pixels = torch.arange(size, dtype=torch.float64)
    return axis_weight(pixels - place[:, None], step, blur) / total


def noise(seed: int, count: int) -> torch.Tensor:
    """(count,) float64 of mean 0 and variance 1: the sum of the four bytes of a hash (MurmurHash3's finaliser) of seed
    and place. It has a bell curve that ends at 3.45 sigma, and is the same on every device."""
    word = 0xFFFFFFFF
    bits = (torch.arange(count) + seed * 0x9E3779B1) & word
    bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & word
    bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & word
    bits = bits ^ (bits >> 16)
    total = (bits & 255) + ((bits >> 8) & 255) + ((bits >> 16) & 255) + (bits >> 24)
    return (total - 510) / math.sqrt((256**2 - 1) / 3)


def augment(
    images: torch.Tensor,  # (N, 3, H, W) uint8
    draws: torch.Tensor,  # (N, 14) float32
    height: int,
    width: int,
    mean: list[float],
    std: list[float],
    dtype: torch.dtype,
) -> torch.Tensor:  # (N, 3, height, width) dtype, channels_last
    """See siamfast.augment. Computed in float64 if dtype is float64, else in float32."""
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    out = torch.empty(
        (len(images), 3, height, width), dtype=dtype, device=images.device, memory_format=torch.channels_last
    )
    luma = torch.tensor(LUMA, dtype=exact, device=images.device)
    for n, row in enumerate(draws.tolist()):
        d = dict(zip(COLUMNS, row, strict=True))
        image = images[n].to(exact)
        pivot = image[:, ::MEAN_STEP, ::MEAN_STEP].mean((1, 2))
        rows = axis_matrix(d["y"], d["step_y"], d["blur"], height, image.shape[1]).to(image)
        columns = axis_matrix(d["x"], d["step_x"], d["blur"], width, image.shape[2]).to(image)
        inside = torch.outer(rows.sum(1), columns.sum(1))
        pixels = rows @ image @ columns.T + (1 - inside) * pivot[:, None, None]
        i, j = torch.arange(height, device=image.device)[:, None], torch.arange(width, device=image.device)
        cut = (i >= d["top"]) & (i < d["bottom"]) & (j >= d["left"]) & (j < d["right"])
        pixels = torch.where(cut, pivot[:, None, None], pixels)
        gray = torch.einsum("c,chw->hw", luma, pixels)
        pixels = gray + d["saturation"] * (pixels - gray)
        pixels = d["brightness"] * (d["contrast"] * pixels + (1 - d["contrast"]) * (luma @ pivot))
        if d["noise"] > 0:
            unit_noise = noise(int(d["seed"]), pixels.numel()).to(pixels).view(pixels.shape)
            pixels = pixels + d["noise"] * unit_noise
        pixels = pixels.clamp(0, 255)
        shift, scale = (torch.tensor(v, dtype=exact, device=image.device)[:, None, None] for v in (mean, std))
        out[n] = (pixels - shift) / scale
    return out
