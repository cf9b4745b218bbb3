"""siamfc-pytorch's loading of training pairs, rewritten: two whole frames are read, cropped and cropped again."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def load_pair(
    frames: tuple[Path, ...], boxes: NDArray[np.float64], first: int, second: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """(3, 127, 127) and (3, 239, 239) float32: both frames give a padded context crop of 255 pixels, stretched and cut
    to its middle 247 and to 239 of them at random; the exemplar is the middle 127."""
    exemplar, instance = (_context(_read(frames[t]), boxes[t]) for t in (first, second))
    exemplar, instance = (_random(_middle(_stretch(image, rng), 247), 239, rng) for image in (exemplar, instance))
    return _tensor(_middle(exemplar, 127)), _tensor(instance)


def _read(path: Path) -> Image:
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)


def _context(image: Image, box: NDArray[np.float64]) -> Image:
    center = box[1] + (box[3] - 1) / 2, box[0] + (box[2] - 1) / 2
    context = 0.5 * (box[2] + box[3])
    size = float(np.sqrt((box[2] + context) * (box[3] + context))) * 255 / 127
    side = round(size)
    top, left = (round(c - (side - 1) / 2) for c in center)
    pads = -top, top + side - image.shape[0], -left, left + side - image.shape[1]
    npad = max(0, *pads)
    if npad:
        mean = image.mean((0, 1)).tolist()
        image = np.asarray(cv2.copyMakeBorder(image, npad, npad, npad, npad, cv2.BORDER_CONSTANT, value=mean), np.uint8)
    patch = image[top + npad : top + npad + side, left + npad : left + npad + side]
    return np.asarray(cv2.resize(patch, (255, 255), interpolation=cv2.INTER_LINEAR), np.uint8)


def _stretch(image: Image, rng: np.random.Generator) -> Image:
    scale = 1 + rng.uniform(-0.05, 0.05)
    side = round(image.shape[0] * scale)
    kind = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_LANCZOS4]))
    return np.asarray(cv2.resize(image, (side, side), interpolation=kind), np.uint8)


def _padded(image: Image, side: int) -> Image:
    short = max(0, -(-(side - image.shape[0]) // 2))
    if not short:
        return image
    mean = image.mean((0, 1)).tolist()
    return np.asarray(cv2.copyMakeBorder(image, *[short] * 4, cv2.BORDER_CONSTANT, value=mean), np.uint8)


def _middle(image: Image, side: int) -> Image:
    image = _padded(image, side)
    start = round((image.shape[0] - side) / 2)
    return image[start : start + side, start : start + side]


def _random(image: Image, side: int, rng: np.random.Generator) -> Image:
    top, left = rng.integers(0, image.shape[0] - side + 1, 2)
    return image[top : top + side, left : left + side]


def _tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float()
