"""Counts for torch.utils.flop_counter: what our raw ops multiply and add, two for each pair, as it counts convolutions.

PyTorch's counter is slow to import, and few count: the formulas are given to it when somebody imports it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch

from siamfast.ops.correspondence_warp import reference

COUNTER = "torch.utils.flop_counter"
Shape = Sequence[int]


def _xcorr(z: Shape, x: Shape, *options: Any, out_shape: Shape) -> int:
    return 2 * math.prod(out_shape) * x[1] * z[2] * z[3]


def _xcorr_backward(grad: Shape, z: Shape, x: Shape, *options: Any, out_shape: Any) -> int:
    need_z, need_x, need_scale, _ = options[-1]  # the factor's gradient comes from the template's
    return 2 * math.prod(grad) * x[1] * z[2] * z[3] * (int(need_z or need_scale) + int(need_x))


def _depthwise(z: Shape, x: Shape, *options: Any, out_shape: Shape) -> int:
    return 2 * math.prod(out_shape) * z[2] * z[3]


def _depthwise_backward(grad: Shape, z: Shape, x: Shape, *options: Any, out_shape: Any) -> int:
    return 2 * math.prod(grad) * z[2] * z[3] * sum(options[-1])


def _warp(query: Shape, keys: Shape, values: Shape, bias: Any, *options: Any, out_shape: Any) -> int:
    _, _, radius, circle, global_frames, topk, _, _ = options
    allowed = reference.allowed_keys(
        (query[2], query[3]),
        (keys[1], keys[3], keys[4]),
        None if radius < 0 else radius,
        "circle" if circle else "square",
        tuple(global_frames),
    )
    pairs = int(allowed.sum())
    weighed = query[2] * query[3] * topk if topk else pairs
    return 2 * query[0] * (pairs * query[1] + weighed * values[2])


FORMULAS: dict[str, Callable[..., int]] = {
    "xcorr": _xcorr,
    "xcorr_backward": _xcorr_backward,
    "xcorr_depthwise": _depthwise,
    "xcorr_depthwise_backward": _depthwise_backward,
    "correspondence_warp": _warp,
}


def register() -> None:
    """Give the formulas to the counter now, or when it is imported."""
    if COUNTER in sys.modules:
        _give(sys.modules[COUNTER])
    else:
        sys.meta_path.insert(0, _Finder())


def _give(counter: ModuleType) -> None:
    for name, formula in FORMULAS.items():
        counter.register_flop_formula(getattr(torch.ops.siamfast, name))(formula)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the counter as Python would, once, and gives it the formulas when it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != COUNTER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_give(module: ModuleType) -> None:
                load(module)
                _give(module)

            spec.loader.exec_module = load_and_give  # type: ignore[method-assign]
        return spec
