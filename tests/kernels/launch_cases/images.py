"""Calls of the ops on images: crops and augmentation."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import siamfast
from siamfast.ops.augment import no_draws
from tests.kernels.launch_cases.case import FLOATS, LAYOUTS, Case, zeros


def crop(image: torch.Tensor, windows: int, out: Any, **options: Any) -> None:
    with torch.no_grad():
        siamfast.crop_and_resize(image, [[5.0, 5.0]] * windows, [40.0] * windows, out, layout="chw", **options)


def augmented(images: torch.Tensor, out: Any, dtype: torch.dtype, step: float, blur: float) -> None:
    draws = no_draws(len(images), tuple(images.shape[2:]))
    draws[:, 2:4], draws[:, 4] = step, blur
    siamfast.augment(images, draws, out_size=out, mean=118, std=60, dtype=dtype)


def images() -> Iterator[Case]:
    for side, windows, out in ((640, 3, 255), (720, 1, 127), (1080, 3, 303), (255, 64, 239)):
        for dtype in (torch.uint8, *FLOATS):
            picture = functools.partial(zeros, (3, side, side), dtype)
            yield Case(
                "crop", f"{side} to {windows} x {out}, {dtype}", lambda p=picture, n=windows, o=out: crop(p(), n, o)
            )
    many_images = (1 << 16) + 1  # more than a grid's y and z hold
    yield Case(
        "crop", f"{many_images} windows", lambda: crop(zeros((1, 8, 8), torch.uint8), many_images, 1), always=True
    )
    for rounding in ("video_analyst", "subpixel"):  # these had 8 bytes on the stack
        picture = functools.partial(zeros, (1, 480, 640), torch.float32)
        yield Case(
            "crop",
            f"gray, reflected, {rounding}",
            lambda p=picture, r=rounding: crop(p(), 1, 127, fill="reflect", rounding=r),
            always=True,
        )
    yield Case("crop", "of 8192 x 8192", lambda: crop(zeros((1, 8, 8), torch.uint8), 1, 8192))
    for dtype in FLOATS:
        for side, out in ((255, 239), (127, 127)):
            for step, blur in ((1.0, 0.0), (1.05, 2.0), (2.0, 3.0), (0.5, 0.0)):
                picture = functools.partial(zeros, (32, 3, side, side), torch.uint8)
                yield Case(
                    "augment",
                    f"{side} to {out}, {step=}, {blur=}, {dtype}",
                    lambda p=picture, o=out, d=dtype, s=step, b=blur: augmented(p(), o, d, s, b),
                )
    yield Case(
        "augment",
        f"{many_images} images",
        lambda: augmented(zeros((many_images, 3, 2, 2), torch.uint8), 1, FLOATS[0], 1.0, 0.0),
        always=True,
    )


def random_crop(rng: np.random.Generator) -> Case:
    count, channels = int(rng.choice([1, 1, 2, 5])), int(rng.choice([1, 3, 4]))
    shape = count, channels, *(int(v) for v in rng.integers(1, 90, 2))
    dtype, layout = (torch.uint8, *FLOATS)[rng.integers(4)], str(rng.choice(LAYOUTS))
    out = tuple(int(v) for v in rng.choice([1, 2, 15, 127, 255], 2))
    options = {
        "fill": [0, "mean", "replicate", "reflect"][rng.integers(4)],
        "rounding": str(rng.choice(["pixel", "subpixel", "pysot", "pytracking", "siamfc-pytorch", "video_analyst"])),
    }
    name = f"{shape} {layout} {dtype} to {out}, {options}"
    return Case("crop", name, lambda: crop(zeros(shape, dtype, layout), count, out, **options))


def random_augment(rng: np.random.Generator) -> Case:
    shape = int(rng.choice([1, 2, 16])), 3, *(int(v) for v in rng.integers(1, 130, 2))
    out, layout = tuple(int(v) for v in rng.choice([1, 16, 31, 127, 255], 2)), str(rng.choice(LAYOUTS))
    dtype, step = FLOATS[rng.integers(3)], float(rng.uniform(0.5, 2))
    blur = float(rng.choice([0.0, 0.5, 3.0]))
    name = f"{shape} {layout} to {out}, {dtype}, {step=:.2f}, {blur=}"
    return Case("augment", name, lambda: augmented(zeros(shape, torch.uint8, layout), out, dtype, step, blur))
