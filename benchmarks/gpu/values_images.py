"""Checks of the kernels that work on images: crops and augmentation."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch
from siamfast.kernels.augment import launch as augment_launch
from siamfast.kernels.crop_and_resize import launch as crop_launch

from benchmarks.gpu.checks import Check, Tensors
from benchmarks.gpu.schedule import Row
from siamfast.data.augmentation import draw_augmentation
from siamfast.ops.augment.reference import augment as augment_reference
from siamfast.ops.crop_and_resize.reference import crop_and_resize as crop_reference

WINDOWS = ((5.0, 4.0, 20.0, 20.0), (-8.0, -3.0, 30.0, 30.0), (30.0, 25.0, 17.0, 17.0))  # x, y, width, height
OUT, MEAN, STD = 24, 118.0, 60.0
CROP_LEVELS = {torch.uint8: 0.51, torch.float32: 2e-3, torch.bfloat16: 1.0}  # uint8 is rounded to whole levels
AUGMENT_LEVELS = {torch.float32: 0.01, torch.bfloat16: 1.0, torch.float16: 0.5}


def levels(most: float, unit: float, results: Tensors, truth: Tensors) -> Row:
    """A rule in gray levels."""
    difference = float((results["value"].double().cpu() - truth["value"].cpu()).abs().max()) * unit
    return {"levels": difference, "allowed_levels": most, "good": difference <= most}


@functools.cache
def picture() -> torch.Tensor:
    """(1, 3, 40, 60) of whole levels, which every dtype holds."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 200, (1, 3, 40, 60)))


@functools.cache
def crop_truth(rule: int, border: int, device: str) -> Tensors:
    windows, fill = torch.tensor(WINDOWS, dtype=torch.float64), torch.full((1, 3), 100.0, dtype=torch.float64)
    return {
        "value": crop_reference(picture().to(device).double(), windows, fill.to(device), OUT, OUT, border, rule, False)
    }


def crop(rule: int, border: int, dtype: torch.dtype) -> Check:
    """Three boxes of one image, one of them over its border."""

    def run(device: str) -> Tensors:
        windows, fill = torch.tensor(WINDOWS, dtype=torch.float64), torch.full((1, 3), 100.0, dtype=torch.float64)
        return {
            "value": crop_launch.forward(
                image=picture().to(device, dtype),
                windows=windows.to(device),
                fill=fill.to(device),
                out_height=OUT,
                out_width=OUT,
                border=border,
                rule=rule,
                layout=torch.contiguous_format,
            )
        }

    judge = functools.partial(levels, CROP_LEVELS[dtype], 1.0)
    truth = functools.partial(crop_truth, rule, border)
    return Check("crop_and_resize", f"rule {rule}, border {border}", dtype, run, truth, 1.0, judge=judge)


@functools.cache
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """Images (2, 3, 61, 75) and draws of everything at once."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 61, 75), generator=generator, dtype=torch.uint8)
    return images, draw_augmentation(
        2,
        (61, 75),
        generator,
        out_size=(45, 52),
        shift=20,
        stretch=0.4,
        flip=0.5,
        color_jitter=0.4,
        gray=0.2,
        blur=0.7,
        noise=9,
        cutout=0.5,
    )


@functools.cache
def augment_truth(device: str) -> Tensors:
    images, draws = drawn()  # its loops over images and levels are faster on the CPU
    return {"value": augment_reference(images, draws, 45, 52, [MEAN] * 3, [STD] * 3, torch.float64)}


def augmented(layout: torch.memory_format, dtype: torch.dtype) -> Check:
    def run(device: str) -> Tensors:
        images, draws = drawn()
        near = images.to(device).contiguous(memory_format=layout)
        return {
            "value": augment_launch.forward(
                images=near, draws=draws, height=45, width=52, mean=[MEAN] * 3, std=[STD] * 3, dtype=dtype
            )
        }

    judge = functools.partial(levels, AUGMENT_LEVELS[dtype], STD)
    name = str(layout).removeprefix("torch.")
    return Check("augment", name, dtype, run, augment_truth, 1.0, judge=judge)


def crops(tiny: bool) -> Iterator[Check]:
    for rule, border in ((0, 0), (1, 0)) if tiny else ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0)):
        for dtype in CROP_LEVELS:
            yield crop(rule, border, dtype)


def augmentations(tiny: bool) -> Iterator[Check]:
    for dtype in AUGMENT_LEVELS:
        for layout in (torch.contiguous_format, torch.channels_last)[: 1 if tiny else 2]:
            yield augmented(layout, dtype)


def smoke() -> Iterator[Check]:
    yield crop(0, 0, torch.uint8)
    yield augmented(torch.contiguous_format, torch.float32)
