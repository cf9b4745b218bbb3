"""Turn centres and sizes into windows: the conventions of trackers, and the checks of the arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.ops import dispatch
from siamfast.ops.crop_and_resize.reference import RULES

# Up to so many windows Python's own numbers are faster than numpy's arrays.
_FEW = 8
_NUMBERS = SimpleNamespace(
    round=lambda x: float(round(x)), floor=lambda x: float(math.floor(x)), ceil=lambda x: float(math.ceil(x)),
    trunc=lambda x: float(math.trunc(x)), clip=lambda x, least, most: max(x, least),
)  # fmt: skip
_LARGEST = 1_000_000  # pixels of a window's side; a larger one is a mistake that would exhaust memory


@dataclass(frozen=True)
class Convention:
    """A project's convention: how it rounds side, corner and mean, its border and its sampling rule."""

    side: str  # "round", "ceil", "exact"
    corner: (
        str  # "round": round(c - (s-1)/2); "floor": floor(c - (s+1)/2 + 0.5); "truncate": int(c) - (s-1)//2; "exact"
    )
    mean: str  # "truncate", "round", "exact"; "zero" pads with 0
    border: str = "constant"
    rule: str = "pixel"


CONVENTIONS = {
    "pixel": Convention("round", "round", "truncate"),
    "subpixel": Convention("exact", "exact", "exact", rule="subpixel"),
    "siamfc": Convention("round", "round", "truncate"),
    "siamfc-pytorch": Convention("round", "round", "round"),
    "pysot": Convention("round", "floor", "truncate"),
    "video_analyst": Convention("exact", "exact", "truncate", rule="corner-aligned"),
    "pytracking": Convention("round", "truncate", "exact", border="replicate"),
    "ostrack": Convention("ceil", "round", "zero"),
}


def convention(rounding: str) -> Convention:
    """The convention that `rounding` names.

    Raises:
        ValueError: an unknown name.
    """
    if rounding not in CONVENTIONS:
        raise ValueError(f"rounding: got {rounding!r}, expected one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[rounding]


def make_windows(centers: Any, sizes: Any, chosen: Convention, meta: bool = False) -> Any:
    """centers (2,) or (M, 2), sizes a number, (M,) or (M, 2) -> (M, 4) x, y, width, height, float64.

    The result is a numpy array, or a torch tensor inside a compiled graph, which allows nothing else; both have the
    functions used here. Values are checked only outside a graph.
    """
    if not dispatch.values_unknown() and (few := _few_windows(centers, sizes, chosen)) is not None:
        return few
    middle, side = as_numbers(centers, "centers", meta), as_numbers(sizes, "sizes", meta)
    if middle.ndim == 1:
        middle = middle[None]
    if middle.ndim != 2 or middle.shape[1] != 2:
        raise ValueError(f"centers: got shape {tuple(middle.shape)}, expected (2,) or (M, 2)")
    if side.ndim > 2 or (side.ndim == 2 and side.shape[1] != 2):
        raise ValueError(f"sizes: got shape {tuple(side.shape)}, expected a number, (M,) or (M, 2)")
    namespace: Any = torch if isinstance(middle, torch.Tensor) else np
    if side.ndim < 2:
        count = side.shape[0] if side.ndim else middle.shape[0]
        side = side[..., None] + namespace.zeros((count, 2))  # `broadcast_to` takes numpy 4 us
    if middle.shape[0] == 1 and side.shape[0] != 1:
        middle = middle + namespace.zeros(tuple(side.shape))
    if side.shape[0] != middle.shape[0]:
        raise ValueError(f"sizes: got {side.shape[0]}, expected as many as centers ({middle.shape[0]})")
    if namespace is np:
        _check_values(middle, side)
    side = _side(side, chosen, namespace)
    return namespace.concatenate((_corner(middle, side, chosen, namespace), side), 1)


def _few_windows(centers: Any, sizes: Any, chosen: Convention) -> NDArray[np.float64] | None:
    """The windows of up to _FEW good centres, each with a side of its own or all with one: what trackers ask for in
    every frame. None: anything else, bad numbers too, which the arrays' code serves or refuses."""
    places, sides = (v.tolist() if isinstance(v, np.ndarray) and v.size <= 2 * _FEW else v for v in (centers, sizes))
    if not (isinstance(places, (list, tuple)) and 0 < len(places) <= _FEW):
        return None
    if not isinstance(places[0], (list, tuple)):
        places = (places,)
    if not isinstance(sides, (list, tuple)):
        sides = (sides,) * len(places)
    if len(sides) != len(places):
        return None
    rows = []
    for place, side in zip(places, sides, strict=True):
        if not (isinstance(place, (list, tuple)) and len(place) == 2 and isinstance(side, (float, int))):
            return None
        x, y = place
        if not (isinstance(x, (float, int)) and isinstance(y, (float, int))):
            return None
        if not (-1e9 < x < 1e9 and -1e9 < y < 1e9 and 0 < side <= _LARGEST):
            return None
        side = _side(side, chosen, _NUMBERS)
        rows.append((_corner(x, side, chosen, _NUMBERS), _corner(y, side, chosen, _NUMBERS), side, side))
    return np.array(rows, np.float64)


def _side(side: Any, chosen: Convention, namespace: Any) -> Any:
    if chosen.side == "round":
        return namespace.clip(namespace.round(side), 1, None)
    return namespace.ceil(side) if chosen.side == "ceil" else side


def _corner(middle: Any, side: Any, chosen: Convention, namespace: Any) -> Any:
    if chosen.corner == "round":
        return namespace.round(middle - (side - 1) / 2)
    if chosen.corner == "floor":
        return namespace.floor(middle - (side + 1) / 2 + 0.5)
    if chosen.corner == "truncate":
        return namespace.trunc(middle) - namespace.floor((side - 1) / 2)
    return middle - (side - 1) / 2


def within(windows: Any, height: int, width: int, chosen: Convention, antialias: bool) -> bool:
    """Whether no window reads outside the image, so the fill is not needed. May be false for a window just inside."""
    if not isinstance(windows, np.ndarray) or (antialias and chosen.rule != "pixel"):  # a tensor's values are unknown
        return False
    margin = 0 if chosen.rule == "pixel" else 2  # taps of the other rules reach beyond the window's rim
    right, bottom = width - margin, height - margin
    if len(windows) <= _FEW:
        sides = windows.tolist()
        return all(x >= margin <= y and x + w <= right and y + h <= bottom for x, y, w, h in sides)
    low, high = windows[:, :2], windows[:, :2] + windows[:, 2:]
    return bool((low >= margin).all() and (high <= (right, bottom)).all())


def _check_values(middle: NDArray[np.float64], side: NDArray[np.float64]) -> None:
    good = np.abs(middle) < 1e9  # not for nan
    if not good.all():
        raise ValueError(f"centers: got {float(middle[~good][0])}, expected finite numbers below 1e9")
    good = (side > 0) & (side <= _LARGEST)
    if not good.all():
        raise ValueError(f"sizes: got {float(side[~good][0])}, expected finite numbers above 0 and up to {_LARGEST}")


def as_numbers(values: Any, name: str, meta: bool = False) -> Any:
    """Numbers in any form as float64: a numpy array, or a CPU tensor inside a compiled graph. Tensors on meta, which
    have no numbers, are for images on meta."""
    if isinstance(values, torch.Tensor) and values.is_meta:
        if not meta:
            raise ValueError(f"{name}: got a tensor on meta, without values, expected numbers, as the image has pixels")
        values = torch.ones(values.shape)  # it has no numbers; these are as good as others
    try:
        if dispatch.values_unknown():
            # float64 at once: numbers in a list would be float32 first
            exact = values if isinstance(values, torch.Tensor) else torch.as_tensor(values, dtype=torch.float64)
            return exact.detach().to("cpu", torch.float64)
        if isinstance(values, torch.Tensor):
            return values.detach().to("cpu", torch.float64).numpy()
        numbers = np.asarray(values)
        if numbers.dtype.kind not in "biuf":  # text, None, objects
            raise TypeError(numbers.dtype)
        return numbers.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: got {type(values).__name__}, expected numbers") from error


def round_mean(mean: NDArray[np.float64], chosen: Convention, whole: bool) -> NDArray[np.float64]:
    """The mean as the convention stores it: in whole grey levels only if the image has them (uint8)."""
    if chosen.mean == "zero":
        return np.zeros_like(mean)
    if not whole or chosen.mean == "exact":
        return mean
    return np.trunc(mean) if chosen.mean == "truncate" else np.round(mean)


def out_sides(out_size: Any) -> tuple[int, int]:
    """S or (height, width) -> (height, width)."""
    if type(out_size) is int and 1 <= out_size <= 65536:
        return out_size, out_size
    sides = (out_size, out_size) if isinstance(out_size, (int, np.integer)) else out_size
    whole = isinstance(sides, (tuple, list)) and len(sides) == 2
    whole = whole and all(isinstance(s, (int, np.integer)) for s in sides)
    if not whole or isinstance(out_size, bool):
        raise TypeError(f"out_size: got {out_size!r}, expected a whole number or (height, width)")
    if min(sides) < 1 or max(sides) > 65536:
        raise ValueError(f"out_size: got {out_size!r}, expected 1 to 65536")
    return int(sides[0]), int(sides[1])


assert all(c.rule in RULES for c in CONVENTIONS.values())
