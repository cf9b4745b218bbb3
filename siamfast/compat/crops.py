"""Other projects' crops without their padded copy of the frame, equal to the pixel.

Their functions pad the whole frame wherever a window leaves it. What the window shows is decided by the part of the
frame around it: the original, called with that part, gives the same crop and pads little.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Crop = Callable[..., Any]


class Signature(NamedTuple):
    """What a crop of a known name takes: the frame, the window's centre, then others."""

    side: int  # the argument that is the window's side, counted from the frame
    rows_first: bool  # whether the centre is y, x


SIGNATURES = {
    "get_subwindow": Signature(side=3, rows_first=False),  # pysot, SiamBAN, SiamCAR, NanoTrack
    "get_subwindow_tracking": Signature(side=3, rows_first=False),  # SiamMask, DaSiamRPN, TracKit, LightTrack
    "crop_and_resize": Signature(side=2, rows_first=True),  # siamfc-pytorch
}


class NearCrop:
    """Calls a project's crop with the part of the frame that its window reads.

    Args:
        original: the project's function. of_class: whether its first argument is `self`.
    """

    def __init__(self, original: Crop, signature: Signature, of_class: bool = False) -> None:
        self.original, self.signature, self._skipped = original, signature, int(of_class)
        functools.update_wrapper(self, original)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None or not self._skipped else functools.partial(self, instance)

    def __call__(self, *arguments: Any, **others: Any) -> Any:
        first = self._skipped
        if len(arguments) > first + self.signature.side:
            frame, center, side = (arguments[first + i] for i in (0, 1, self.signature.side))
            near = _near(frame, center, side, self.signature.rows_first)
            if near is not None:
                part, place, start = near
                result = self.original(*arguments[:first], part, place, *arguments[first + 2 :], **others)
                return _for_frame(result, frame.shape, part.shape, start) if type(result) is tuple else result
        return self.original(*arguments, **others)


def _near(frame: Any, center: Any, side: Any, rows_first: bool) -> tuple[Any, NDArray[Any], tuple[int, int]] | None:
    """(the part of `frame` within a square around `center`, the centre in it, its top and left), or None: all of it."""
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or np.shape(center) != (2,) or np.ndim(side) != 0:
        return None
    places = np.asarray(center)  # in their dtype: float32 rounds as it did
    y, x = places if rows_first else places[::-1]
    height, width = frame.shape[:2]
    reach = float(side) / 2 + 2  # rounding moves a window by one
    if not math.isfinite(x + y + reach) or (reach <= x < width - reach and reach <= y < height - reach):
        return None  # inside the frame nothing is padded
    # Even shifts: where a corner falls in the middle of two pixels, half is rounded to the even one.
    top, left = (max(0, math.floor(place - reach) // 2 * 2) for place in (y, x))
    bottom, right = math.ceil(y + reach) + 1, math.ceil(x + reach) + 1
    part = frame[top:bottom, left:right] if bottom > 0 and right > 0 else frame[:0]
    if 0 in part.shape:
        return None
    shift = np.array((top, left) if rows_first else (left, top), dtype=places.dtype)
    return part, places - shift, (top, left)


def _for_frame(result: Any, shape: tuple[int, ...], part: tuple[int, ...], start: tuple[int, int]) -> Any:
    """TracKit and LightTrack return beside the crop where it lies in the padded frame; here, in the padded part."""
    (crop, about), (top, left), (height, width) = result, start, shape[:2]
    left_to_bottom = np.array([left, left, top, top])
    padded = np.array(about["empty_mask"].shape) - part[:2] + (height, width)
    return crop, {
        "crop_cords": (np.array(about["crop_cords"]) + left_to_bottom).tolist(),
        "empty_mask": np.zeros(tuple(padded)),
        "pad_info": [*about["pad_info"][:2], height, width],
    }


def near_crop(original: Crop, name: str, of_class: bool = False) -> NearCrop | None:
    """`original` by the part of the frame that it reads, if that gives the same crops of noise."""
    if not inspect.isfunction(original):
        return None
    ours = NearCrop(original, SIGNATURES[name], of_class)
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    mean = noise.mean((0, 1))
    try:
        for center, side in (((11.5, 20.5), 61), ((100.25, 80.0), 48), ((60.0, 45.0), 150), ((50.0, 50.0), 20)):
            place = np.array(center[::-1] if SIGNATURES[name].rows_first else center)
            window = (place, side, 40) if SIGNATURES[name].side == 2 else (place, 40, side)
            border = {"border_value": mean} if name == "crop_and_resize" else {}
            arguments = (*(None,) * of_class, noise, *window, *(() if border else (mean,)))
            if not same(original(*arguments, **border), ours(*arguments, **border)):
                return None
    except Exception:  # a function of this name that takes something else
        return None
    return ours


def same(first: Any, second: Any) -> bool:
    """Whether two results are the same to the last bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return isinstance(second, np.ndarray) and np.array_equal(first, second)
    if isinstance(first, dict):
        return isinstance(second, dict) and same(list(first.items()), list(second.items()))
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return bool(first == second)


def known(modules: list[ModuleType]) -> list[tuple[ModuleType, type | None, str, Crop]]:
    """(module, class or None, name, function) of the crops that `modules` define or import."""
    found: dict[int, tuple[ModuleType, type | None, str, Crop]] = {}
    for module in modules:
        for name, value in list(vars(module).items()):
            if name in SIGNATURES and inspect.isfunction(value):
                found.setdefault(id(value), (sys.modules.get(value.__module__, module), None, name, value))
            elif inspect.isclass(value) and value.__module__ == module.__name__:
                for method in SIGNATURES:
                    if inspect.isfunction(vars(value).get(method)):
                        found.setdefault(id(vars(value)[method]), (module, value, method, vars(value)[method]))
    return list(found.values())
