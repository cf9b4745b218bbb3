"""Speed of augment beside eager PyTorch on batches and OpenCV image by image.

pytest benchmarks/bench_augment.py [--quick] [--results FILE]
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch

import siamfast
from benchmarks.harness import OURS, Case, Made
from benchmarks.peers.augmentation import eager, opencv
from siamfast.data.augmentation import draw_augmentation
from siamfast.ops.augment.reference import COLUMNS

MEAN, STD = 118.0, 60.0
KINDS = {"geometry and colour": (0.0, 0.0), "blur of a tenth, noise": (0.1, 8.0)}  # blur, noise


def ours(images: torch.Tensor, draws: torch.Tensor, out: int, mean: float, std: float) -> torch.Tensor:
    return siamfast.augment(images, draws, out_size=out, mean=mean, std=std)


def make(count: int, side: int, out: int, kind: str, device: str, compiled: bool) -> Made:
    generator = torch.Generator().manual_seed(0)
    # Smooth, as photographs are: OpenCV places pixels to 1/32.
    coarse = torch.rand(count, 3, side // 8 + 1, side // 8 + 1, generator=generator) * 255
    images = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").byte().to(device)
    blur, noise = KINDS[kind]
    draws = draw_augmentation(
        count,
        (side, side),
        generator,
        out_size=(out, out),
        shift=8,
        stretch=0.05,
        flip=0.5,
        color_jitter=0.2,
        gray=0.15,
        blur=blur,
        noise=noise,
        cutout=0.2,
    )
    calls: dict[str, Callable[..., torch.Tensor]] = {OURS: ours, "eager": eager}
    if device == "cpu":
        calls["opencv"] = opencv
    without_noise = draws.clone()
    without_noise[:, COLUMNS.index("noise")] = 0

    def check(name: str) -> None:
        """Compares levels without noise; uint8 between steps and another Gaussian tail differ by a level or two."""
        with siamfast.backend("reference"):  # on the CPU: a GPU's convolution in TF32 rounds by a tenth of a level
            truth = siamfast.augment(images.cpu(), without_noise.cpu(), out_size=out, mean=MEAN, std=STD).to(device)
        off = (calls[name](images, without_noise, out, MEAN, STD) - truth).abs() * STD
        if not (
            float(off.mean()) < (0.05 if name == OURS else 1.0) and float(off.max()) < (0.1 if name == OURS else 60)
        ):
            raise AssertionError(f"{name} is off by {float(off.mean())} levels on average, {float(off.max())} at most")

    runs = {name: functools.partial(call, images, draws, out, MEAN, STD) for name, call in calls.items()}
    return Made(runs, check)


def cases(quick: bool = False) -> Iterator[Case]:
    for count, side, out in ((2, 40, 32),) if quick else ((32, 255, 239), (32, 127, 127)):
        for kind in KINDS:
            size = count * 3 * (side * side + 4 * out * out)
            yield Case(
                "augment",
                f"{count} x {side} px to {out}, {kind}",
                "call",
                {"images": (count, 3, side, side)},
                (OURS, "eager", "opencv"),
                functools.partial(make, count, side, out, kind),
                bytes=size,
            )


def test_augment(timed: None) -> None:
    """Timed by the fixture, its values checked first."""
