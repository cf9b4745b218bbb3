"""Speed of crop_and_resize on the CPU beside OpenCV's mean, border and resize, and the code that ours replaced.

pytest benchmarks/bench_crop_and_resize.py [--quick] [--results FILE]
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import siamfast
from benchmarks.harness import FIRST, OURS, Case, Made

Crop = Callable[[NDArray[np.uint8], list[tuple[float, float]], list[float], int], NDArray[np.uint8]]


class Windows(NamedTuple):
    """The crops that are cut out of one frame."""

    name: str
    height: int
    width: int
    centers: list[tuple[float, float]]
    sizes: list[float]
    out: int


def ours(frame: NDArray[np.uint8], centers: Any, sizes: Any, out: int) -> NDArray[np.uint8]:
    return siamfast.crop_and_resize(frame, centers, sizes, out, rounding="siamfc")


def _place(center: tuple[float, float], size: float) -> tuple[int, int, int]:
    """Rounded corner x, y and side."""
    side = round(size)
    return round(center[0] - (side - 1) / 2), round(center[1] - (side - 1) / 2), side


def opencv(frame: NDArray[np.uint8], centers: Any, sizes: Any, out: int) -> NDArray[np.uint8]:
    """The fastest OpenCV code: one mean per frame, a border around the window only, one resize per box."""
    height, width = frame.shape[:2]
    mean = tuple(int(v) for v in cv2.mean(frame)[:3])
    crops = []
    for center, size in zip(centers, sizes, strict=True):
        x, y, side = _place(center, size)
        part = frame[max(y, 0) : y + side, max(x, 0) : x + side]
        over = [max(0, v) for v in (-y, y + side - height, -x, x + side - width)]
        if any(over):
            part = cv2.copyMakeBorder(part, *over, cv2.BORDER_CONSTANT, value=mean)
        crops.append(cv2.resize(part, (out, out), interpolation=cv2.INTER_LINEAR))
    return np.stack(crops)


def first_version(frame: NDArray[np.uint8], centers: Any, sizes: Any, out: int) -> NDArray[np.uint8]:
    """The first version's steps: a mean per box, and the whole frame padded where a window leaves it.

    The mean is taken per channel: `mean((0, 1))` takes nine times as long, which would flatter us.
    """
    crops = []
    for center, size in zip(centers, sizes, strict=True):
        mean = np.array([frame[..., c].mean() for c in range(3)]).astype(np.uint8)
        x, y, side = _place(center, size)
        reach = max(0, -x, -y, x + side - frame.shape[1], y + side - frame.shape[0])
        padded = frame
        if reach:
            padded = np.empty((frame.shape[0] + 2 * reach, frame.shape[1] + 2 * reach, 3), np.uint8)
            padded[:] = mean
            padded[reach : reach + frame.shape[0], reach : reach + frame.shape[1]] = frame
        cut = padded[y + reach : y + reach + side, x + reach : x + reach + side]
        crops.append(cv2.resize(cut, (out, out), interpolation=cv2.INTER_LINEAR))
    return np.stack(crops)


CONTENDERS: dict[str, Crop] = {OURS: ours, "opencv": opencv, FIRST: first_version}


def windows() -> Iterator[Windows]:
    """720p and 1080p, template and search, one box and the tracker's three scales, inside and over the corner."""
    context = 220.0
    for height, width in ((720, 1280), (1080, 1920)):
        for out, scales, inside in itertools.product((127, 255), ((1.0,), (1 / 1.0375, 1.0, 1.0375)), (True, False)):
            center = (width / 2, height / 2) if inside else (40.0, 30.0)
            sizes = [context * out / 127 * scale for scale in scales]
            name = f"{height}p, {len(scales)} x {out} px, {'inside' if inside else 'border'}"
            yield Windows(name, height, width, [center] * len(scales), sizes, out)


def make(cut: Windows, device: str, compiled: bool) -> Made:
    rng = np.random.default_rng(0)
    # Contenders cycle through their own frames, which together exceed the last-level cache.
    count = 64_000_000 // (cut.height * cut.width * 3) + 1
    frames = [rng.integers(0, 256, (cut.height, cut.width, 3), dtype=np.uint8) for _ in range(count)]
    turn = itertools.cycle(frames)
    cv2.setNumThreads(torch.get_num_threads())
    windows = cut.centers, cut.sizes, cut.out
    if device == "cuda":
        return on_device(cut, frames, device)

    def check(name: str) -> None:
        result, expected = (crop(frames[0], *windows).astype(int) for crop in (CONTENDERS[name], first_version))
        difference = np.abs(result - expected).max()
        if difference > 1:
            raise AssertionError(f"{cut.name}: {name} is {difference} gray levels from the first version's crop")

    def run(crop: Crop) -> NDArray[np.uint8]:
        return crop(next(turn), *windows)

    return Made({name: functools.partial(run, crop) for name, crop in CONTENDERS.items()}, check)


def on_device(cut: Windows, frames: list[NDArray[np.uint8]], device: str) -> Made:
    """Our op on a frame already on the GPU, as from a video decoder; OpenCV crops on the CPU and uploads."""
    on_device_frames = [torch.from_numpy(frame).to(device).permute(2, 0, 1) for frame in frames]
    near, far = itertools.cycle(on_device_frames), itertools.cycle(frames)
    windows = cut.centers, cut.sizes, cut.out
    runs = {
        OURS: lambda: siamfast.crop_and_resize(next(near), *windows, rounding="siamfc"),
        "opencv": lambda: torch.from_numpy(opencv(next(far), *windows)).to(device).permute(0, 3, 1, 2),
    }

    def check(name: str) -> None:
        result = (
            siamfast.crop_and_resize(on_device_frames[0], *windows, rounding="siamfc").permute(0, 2, 3, 1).cpu().numpy()
        )
        difference = np.abs(result.astype(int) - first_version(frames[0], *windows)).max()
        if name == OURS and difference > 1:
            raise AssertionError(f"{cut.name}: {name} is {difference} gray levels from the first version's crop")

    return Made(runs, check)


def cases(quick: bool = False) -> Iterator[Case]:
    for cut in list(windows())[:: 5 if quick else 1]:
        shapes = {"image": (cut.height, cut.width, 3), "out": (len(cut.sizes), cut.out, cut.out, 3)}
        read = cut.height * cut.width * 3  # the whole frame: its mean is part of the work
        written = len(cut.sizes) * cut.out**2 * 3
        yield Case(
            "crop_and_resize",
            cut.name,
            "call",
            shapes,
            tuple(CONTENDERS),
            functools.partial(make, cut),
            "uint8",
            bytes=read + written,
            flop=read + 8 * written,
        )


def test_crop_and_resize(timed: None) -> None:
    """Timed by the fixture, its values checked first."""
