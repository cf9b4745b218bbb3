"""From centres and sizes to windows: the conventions of trackers, and the checks of what a caller passes."""

from __future__ import annotations

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
    if rounding not in CONVENTIONS:
        raise ValueError(f"rounding: got {rounding!r}, expected one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[rounding]


def make_windows(centers: Any, sizes: Any, chosen: Convention) -> torch.Tensor:
    """centers (2,) or (M, 2), sizes a number, (M,) or (M, 2) -> (M, 4) x, y, width, height, float64 on the CPU.

    In torch, so that a compiled graph can hold it; the values are checked outside of one.
    """
    middle, side = as_numbers(centers, "centers"), as_numbers(sizes, "sizes")
    if middle.dim() == 1:
        middle = middle[None]
    if middle.dim() != 2 or middle.shape[1] != 2:
        raise ValueError(f"centers: got shape {tuple(middle.shape)}, expected (2,) or (M, 2)")
    given = tuple(side.shape)
    if side.dim() == 0:
        side = side.expand(middle.shape)
    elif side.dim() == 1:
        side = side[:, None].expand(-1, 2)
    if side.dim() != 2 or side.shape[1] != 2:
        raise ValueError(f"sizes: got shape {given}, expected a number, (M,) or (M, 2)")
    if middle.shape[0] == 1 and side.shape[0] != 1:
        middle = middle.expand(side.shape)
    if side.shape[0] != middle.shape[0]:
        raise ValueError(f"sizes: got {side.shape[0]}, expected as many as centers ({middle.shape[0]})")
    if not torch.compiler.is_compiling():
        _check_values(middle, side)
    if chosen.side == "round":
        side = side.round().clamp_min(1)
    elif chosen.side == "ceil":
        side = side.ceil()
    if chosen.corner == "round":
        corner = (middle - (side - 1) / 2).round()
    elif chosen.corner == "floor":
        corner = (middle - (side + 1) / 2 + 0.5).floor()
    elif chosen.corner == "truncate":
        corner = middle.trunc() - ((side - 1) / 2).floor()
    else:
        corner = middle - (side - 1) / 2
    return torch.cat([corner, side], 1)


def _check_values(middle: torch.Tensor, side: torch.Tensor) -> None:
    bad = ~(middle.abs() < 1e9)  # nan too
    if bool(bad.any()):
        raise ValueError(f"centers: got {float(middle[bad][0])}, expected finite numbers below 1e9")
    bad = ~((side > 0) & (side <= _LARGEST))
    if bool(bad.any()):
        raise ValueError(f"sizes: got {float(side[bad][0])}, expected finite numbers above 0 and up to {_LARGEST}")


def as_numbers(values: Any, name: str) -> torch.Tensor:
    """Numbers in any form as a float64 tensor on the CPU."""
    try:
        if isinstance(values, torch.Tensor):
            return values.detach().to("cpu", torch.float64)
        if isinstance(values, (list, tuple)) and any(
            isinstance(v, (torch.Tensor, np.ndarray, np.generic)) for v in values
        ):
            values = np.asarray([np.asarray(v, dtype=np.float64) for v in values])
        if isinstance(values, np.ndarray) and not torch.compiler.is_compiling():
            return torch.from_numpy(np.array(values, dtype=np.float64))  # a copy: expanded arrays are not writable
        return torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: got {type(values).__name__}, expected numbers") from error


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
    whole = isinstance(sides, (tuple, list)) and len(sides) == 2
    whole = whole and all(isinstance(s, (int, np.integer)) for s in sides)
    if not whole or isinstance(out_size, bool):
        raise TypeError(f"out_size: got {out_size!r}, expected a whole number or (height, width)")
    if min(sides) < 1 or max(sides) > 65536:
        raise ValueError(f"out_size: got {out_size!r}, expected 1 to 65536")
    return int(sides[0]), int(sides[1])


assert all(c.rule in RULES for c in CONVENTIONS.values())
