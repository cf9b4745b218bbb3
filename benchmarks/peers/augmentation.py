"""Augmentation as trackers do it today, rewritten: batches in eager PyTorch, and image by image in OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from siamfast.ops.augment.reference import COLUMNS, LUMA

_AT = {name: number for number, name in enumerate(COLUMNS)}


def eager(images: torch.Tensor, draws: torch.Tensor, out: int, mean: float, std: float) -> torch.Tensor:
    """(N, 3, H, W) uint8 -> (N, 3, out, out) float32: grid_sample, one color matrix per image, blur where drawn."""
    device, (count, _, height, width) = images.device, images.shape
    pixels = images.float()
    average = pixels[..., ::8, ::8].mean((2, 3))
    for n in draws[:, _AT["blur"]].nonzero().flatten().tolist():
        pixels[n] = _blur(pixels[n], float(draws[n, _AT["blur"]]))
    table = draws.to(device, non_blocking=True)
    column = {name: table[:, number].view(-1, 1, 1) for name, number in _AT.items()}
    axis = torch.arange(out, device=device) - (out - 1) / 2
    x = (column["x"] + axis * column["step_x"]).expand(-1, out, -1)
    y = (column["y"] + axis[:, None] * column["step_y"]).expand(-1, -1, out)
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), 3)
    pixels = F.grid_sample(pixels - average[..., None, None], grid, align_corners=False) + average[..., None, None]
    cells = torch.arange(out, device=device)
    rows = (cells >= column["top"][..., 0]) & (cells < column["bottom"][..., 0])
    columns = (cells >= column["left"][..., 0]) & (cells < column["right"][..., 0])
    cut = (rows[:, :, None] & columns[:, None])[:, None]
    pixels = torch.where(cut, average[..., None, None], pixels)
    luma = torch.tensor(LUMA, device=device)
    mix = column["saturation"]
    matrix = mix * torch.eye(3, device=device) + (1 - mix) * luma
    gain = column["brightness"] * column["contrast"]
    pivot = column["brightness"] * (1 - column["contrast"]) * (average @ luma).view(-1, 1, 1)
    pixels = torch.baddbmm(pivot.expand(-1, 3, 1), gain * matrix, pixels.flatten(2)).view(count, 3, out, out)
    pixels = pixels + column["noise"][..., None] * torch.randn_like(pixels)
    return ((pixels.clamp(0, 255) - mean) / std).contiguous(memory_format=torch.channels_last)


def _blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = round(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=image.device) / sigma) ** 2)
    kernel = (taps / taps.sum()).expand(3, 1, 1, -1)
    padded = F.pad(image[None], [radius] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)[0]


def opencv(images: torch.Tensor, draws: torch.Tensor, out: int, mean: float, std: float) -> torch.Tensor:
    """The same, as a data loader's worker does it: image after image on the CPU, uint8 as long as it can be."""
    crops, rng = [], np.random.default_rng()
    for image, row in zip(images.permute(0, 2, 3, 1).contiguous().numpy(), draws.tolist(), strict=True):
        d = dict(zip(COLUMNS, row, strict=True))
        average = image[::8, ::8].mean((0, 1))
        if d["blur"] > 0:
            image = cv2.GaussianBlur(image, (0, 0), d["blur"])
        half = (out - 1) / 2
        inverse_map = np.array(
            [[d["step_x"], 0, d["x"] - half * d["step_x"]], [0, d["step_y"], d["y"] - half * d["step_y"]]]
        )
        image = cv2.warpAffine(
            image, inverse_map, (out, out), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=average.tolist()
        )
        image[int(d["top"]) : int(d["bottom"]), int(d["left"]) : int(d["right"])] = average
        matrix = d["saturation"] * np.eye(3) + (1 - d["saturation"]) * np.array(LUMA)
        pivot = d["brightness"] * (1 - d["contrast"]) * float(average @ np.array(LUMA))
        affine = np.concatenate([d["brightness"] * d["contrast"] * matrix, np.full((3, 1), pivot)], 1)
        pixels = cv2.transform(image.astype(np.float32), affine)
        if d["noise"] > 0:
            pixels += d["noise"] * rng.standard_normal(pixels.shape, np.float32)
        crops.append((np.clip(pixels, 0, 255) - mean) / std)
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
