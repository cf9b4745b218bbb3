"""The steps of `accelerate`: each changes what it finds, appends to `undo`, and returns what it did in words, or
nothing where there was nothing to do."""

from __future__ import annotations

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import nn

from siamfast.compat import crops, reduced, trial
from siamfast.compat.compiled import Compiled, whole_parts
from siamfast.compat.convolutions import FastConvolution, Skipped
from siamfast.compat.observed import chains
from siamfast.compat.patching import AlreadyPatchedError, Patch, patch

_METHODS = ("init", "track", "update", "template")  # what a tracker or its network does per sequence and frame
_EXACT = ("init", "template")  # stay in float32
# By id, what standing accelerations have put in place. Weak, so that a tracker that is dropped goes.
_standing: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
Undo = list[Callable[[], None]]


def clean_copies(holders: list[Any]) -> None:
    """Remove what a copy has got of an accelerated tracker: the original's `undo` does not know it."""
    for holder in holders:
        for name, value in list(getattr(holder, "__dict__", {}).items()):
            ours = isinstance(value, (FastConvolution, Skipped, Compiled)) or (
                isinstance(value, functools.partial) and value.func is _without_gradients
            )
            if ours and _standing.get(id(value)) is not value:
                delattr(holder, name)


def _loaded(packages: list[str]) -> list[ModuleType]:
    names = tuple(packages)
    return [m for n, m in list(sys.modules.items()) if n.partition(".")[0] in names and isinstance(m, ModuleType)]


def swap_crops(undo: Undo, packages: list[str]) -> str:
    """The packages' crop functions, called with a part of the frame."""
    swaps = Patch()
    for module, owner, name, function in crops.known(_loaded(packages)):
        ours = crops.near_crop(function, name, of_class=owner is not None)
        if ours is None:
            swaps.left.append(f"{module.__name__}.{name}")
        else:
            swaps.rebind(function, ours, name, module, owner)
    return _kept_swaps(undo, [swaps])


def _kept_swaps(undo: Undo, swaps: list[Patch]) -> str:
    """What was swapped and what was left, in words; nothing if there was neither."""
    swapped = [place for each in swaps for place in each.swapped]
    left = [place for each in swaps for place in each.left]
    undo += [each.undo for each in swaps if each.swapped]
    if not swapped and not left:
        return ""
    return f"{len(swapped)} places" + (f", as it was: {', '.join(left)}" if left else "")


def swap_correlations(undo: Undo, packages: list[str]) -> str:
    """`patch` of the packages."""
    made, already = [], []
    for package in packages:
        try:
            made.append(patch(package))
        except AlreadyPatchedError:
            already.append(f"{package} is patched already")
        except ValueError:  # no known function
            continue
    return "; ".join(filter(None, (_kept_swaps(undo, made), *already)))


def _without_gradients(method: Callable[..., Any], exact: bool, /, *args: Any, **kwargs: Any) -> Any:
    # Not inference_mode: a template that it made could not be used after undo().
    with torch.no_grad(), contextlib.nullcontext() if not exact else reduced.exactly():
        return method(*args, **kwargs)


def drop_gradients(undo: Undo, holders: list[Any]) -> str:
    """No autograd in the holders' methods of a sequence and a frame."""
    count = 0
    for holder in {id(holder): holder for holder in holders}.values():
        for name in _METHODS:
            if _from_class(holder, name):
                _put(undo, holder, name, functools.partial(_without_gradients, getattr(holder, name), name in _EXACT))
                count += 1
    return f"none in {count} methods" if count else ""


def _from_class(holder: Any, name: str) -> bool:
    """Whether `holder` gets the method `name` from its class alone and can have one of its own."""
    return callable(getattr(type(holder), name, None)) and name not in getattr(holder, "__dict__", {name: None})


def _put(undo: Undo, holder: Any, name: str, ours: Callable[..., Any]) -> None:
    setattr(holder, name, ours)
    _standing[id(ours)] = ours
    undo.append(functools.partial(_remove, holder, name, ours))


def _remove(holder: Any, name: str, ours: Any) -> None:
    _standing.pop(id(ours), None)
    if vars(holder).get(name) is ours:  # not what was put there since
        delattr(holder, name)


def swap_convolutions(undo: Undo, run: Callable[[], Any], parts: list[Any], networks: list[nn.Module]) -> str:
    """Fast convolutions, each with the BatchNorm and the activation that the trial saw behind it."""
    with trial.untouched(parts, networks):
        found = chains(networks, run)
    for chain in found:
        _put(undo, chain.convolution, "forward", FastConvolution(*chain))
        for module in chain[1:]:
            if module is not None:
                _put(undo, module, "forward", Skipped(module))
    norms, activations = (sum(chain[i] is not None for chain in found) for i in (1, 2))
    return f"{len(found)}, with {norms} BatchNorms and {activations} activations" if found else ""


def use_minimal_filtering(undo: Undo, modules: list[nn.Module]) -> str:
    """Minimal filtering in the convolutions that were swapped."""
    eligible = [forward for forward in _fast(modules) if forward.can_filter()]
    for forward in eligible:
        forward.set_filtering(True)
        undo.append(functools.partial(forward.set_filtering, False))
    return f"{len(eligible)} convolutions" if eligible else ""


def use_precision(undo: Undo, modules: list[nn.Module], precision: str) -> str:
    """Another precision in the larger convolutions that were swapped."""
    eligible = [forward for forward in _fast(modules) if forward.can_reduce()]
    for forward in eligible:
        forward.set_precision(precision)
        undo.append(functools.partial(forward.set_precision, "float32"))
    return f"{len(eligible)} convolutions" if eligible else ""


def compile_parts(undo: Undo, networks: list[nn.Module]) -> str:
    """`torch.compile` of the networks' parts."""
    parts = [part for network in networks for part in whole_parts(network)]
    for part in parts:
        _put(undo, part, "forward", Compiled(part))
    return f"{len(parts)} parts" if parts else ""


def _fast(modules: list[nn.Module]) -> list[FastConvolution]:
    return [forward for module in modules if isinstance(forward := vars(module).get("forward"), FastConvolution)]
