"""From centres and sizes to windows: the conventions of trackers, and the checks of what a caller passes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.reference.crop_and_resize import RULES

_LARGEST = 1_000_000  # pixels of a window's side; beyond it something is wrong, and memory would go


@dataclass(frozen=True)
class Convention:
    """How a project rounds: its side, its corner, its mean, its border, and the rule it samples by."""

    side: str  # "round", "ceil", "exact"
    corner: str  # "round": round(c - (s-1)/2); "floor": floor(c - (s+1)/2 + 0.5); "truncate": int(c) - (s-1)//2; "exact"
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
    if rounding not in CONVENTIONS:
        raise ValueError(f"rounding: got {rounding!r}, expected one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[rounding]


def make_windows(centers: Any, sizes: Any, chosen: Convention) -> NDArray[np.float64]:
    """centers (2,) or (M, 2), sizes a number, (M,) or (M, 2) -> (M, 4) x, y, width, height."""
    middle, side = as_array(centers, "centers"), as_array(sizes, "sizes")
    if middle.ndim == 1:
        middle = middle[None]
    if middle.ndim != 2 or middle.shape[1] != 2:
        raise ValueError(f"centers: got shape {middle.shape}, expected (2,) or (M, 2)")
    if side.ndim == 0:
        side = np.full(middle.shape, float(side))
    elif side.ndim == 1:
        side = np.repeat(side[:, None], 2, 1)
    if side.ndim != 2 or side.shape[1] != 2:
        raise ValueError(f"sizes: got shape {side.shape}, expected a number, (M,) or (M, 2)")
    if len(middle) == 1 and len(side) != 1:
        middle = np.repeat(middle, len(side), 0)
    if len(side) != len(middle):
        raise ValueError(f"sizes: got {len(side)}, expected as many as centers ({len(middle)})")
    if not (np.isfinite(middle).all() and np.abs(middle, where=np.isfinite(middle), out=np.zeros_like(middle)).max(initial=0) < 1e9):
        raise ValueError(f"centers: got {_first_bad(middle)}, expected finite numbers below 1e9")
    if not (np.isfinite(side).all() and (side > 0).all() and side.max(initial=1) <= _LARGEST):
        raise ValueError(f"sizes: got {_first_bad(side)}, expected finite numbers above 0 and up to {_LARGEST}")
    if chosen.side == "round":
        side = np.maximum(np.round(side), 1)
    elif chosen.side == "ceil":
        side = np.ceil(side)
    if chosen.corner == "round":
        corner = np.round(middle - (side - 1) / 2)
    elif chosen.corner == "floor":
        corner = np.floor(middle - (side + 1) / 2 + 0.5)
    elif chosen.corner == "truncate":
        corner = np.trunc(middle) - (side - 1) // 2
    else:
        corner = middle - (side - 1) / 2
    return np.ascontiguousarray(np.concatenate([corner, side], 1))


def as_array(values: Any, name: str) -> NDArray[np.float64]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy() if values.dtype != torch.bfloat16 else values.detach().float().cpu()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: got {type(values).__name__}, expected numbers") from error


def _first_bad(values: NDArray[np.float64]) -> float:
    bad = values[~(np.isfinite(values) & (values > 0) & (values <= _LARGEST))]
    return float(bad[0]) if bad.size else math.nan


def round_mean(mean: NDArray[np.float64], chosen: Convention, whole: bool) -> NDArray[np.float64]:
    """The mean as the convention stores it: in whole grey levels only where the image is (uint8)."""
    if chosen.mean == "zero":
        return np.zeros_like(mean)
    if not whole or chosen.mean == "exact":
        return mean
    return np.trunc(mean) if chosen.mean == "truncate" else np.round(mean)


def out_sides(out_size: Any) -> tuple[int, int]:
    """S or (height, width) -> (height, width)."""
    sides = (out_size, out_size) if isinstance(out_size, (int, np.integer)) else out_size
    whole = isinstance(sides, (tuple, list)) and len(sides) == 2 and all(isinstance(s, (int, np.integer)) for s in sides)
    if not whole or isinstance(out_size, bool):
        raise TypeError(f"out_size: got {out_size!r}, expected a whole number or (height, width)")
    if min(sides) < 1 or max(sides) > 65536:
        raise ValueError(f"out_size: got {out_size!r}, expected 1 to 65536")
    return int(sides[0]), int(sides[1])


assert all(c.rule in RULES for c in CONVENTIONS.values())
