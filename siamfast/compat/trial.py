"""A short run of someone else's tracker or network: what it returns, and how long a frame takes."""

from __future__ import annotations

import collections
import copy
import functools
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

_FRAMES = 3
_DEEPEST = 8  # levels of attributes, lists and dictionaries that a trial puts back
_BOX = (30, 40, 70, 50)  # near a corner: a search window often leaves the frame


class Outcome(NamedTuple):
    """What one trial gave."""

    results: list[NDArray[np.float64]]  # every number that it returned, in order
    seconds: float  # a frame
    repeatable: bool = True  # whether the last two runs gave the same


def clip() -> list[NDArray[np.uint8]]:
    """Frames of 360 x 480 pixels of smooth noise, over which a patch of other noise moves."""
    noise = np.random.default_rng(0)
    background = cv2.resize(noise.integers(0, 256, (24, 32, 3), np.uint8), (480, 360), interpolation=cv2.INTER_CUBIC)
    patch = cv2.resize(noise.integers(0, 256, (5, 7, 3), np.uint8), _BOX[2:], interpolation=cv2.INTER_CUBIC)
    frames = []
    for i in range(_FRAMES):
        frame = background.copy()
        x, y = _BOX[0] + 3 * i, _BOX[1] + 2 * i
        frame[y : y + _BOX[3], x : x + _BOX[2]] = patch
        frames.append(frame)
    return frames


def of_tracker(tracker: Any) -> Callable[[], Any]:
    """`tracker.init(frame, box)`, then `update(frame)` or `track(frame)` of the frames that follow."""
    frames = clip()

    def run() -> Any:
        tracker.init(frames[0], list(_BOX))
        step = tracker.update if hasattr(tracker, "update") else tracker.track
        return [copy.deepcopy(step(frame)) for frame in frames[1:]]

    return run


def of_network(network: Any) -> Callable[[], Any]:
    """`network.template(crop)`, then `network.track(crop)`, of noise."""
    generator = torch.Generator().manual_seed(0)
    template, search = (torch.rand(1, 3, s, s, generator=generator) * 255 for s in (127, 255))

    def run() -> Any:
        network.template(template)
        return [network.track(search) for _ in range(_FRAMES - 1)]

    return run


def measure(run: Callable[[], Any], parts: list[Any], networks: list[nn.Module]) -> Outcome:
    """Run once, then by the clock; every attribute is put back.

    The shortest of some runs is taken: what other processes add is no part of a step.
    """
    with untouched(parts, networks):
        latest = list(numbers(run()))
        seconds: list[float] = []
        while len(seconds) < 3 or (sum(seconds) < 0.5 and len(seconds) < 20):
            start = time.perf_counter()
            results = run()
            seconds.append(time.perf_counter() - start)
            earlier, latest = latest, list(numbers(results))
        repeatable = difference(Outcome(earlier, 0), Outcome(latest, 0)) is not None
        return Outcome(latest, min(seconds) / (_FRAMES - 1), repeatable)


@contextmanager
def untouched(parts: list[Any], networks: list[nn.Module]) -> Iterator[None]:
    """Put everything that the parts and all modules hold back afterwards: a trial is no part of the user's run.

    Objects, lists, dictionaries, tensors and arrays that were written in place, such as BatchNorm's statistics in
    training, are the same objects with what they held before, since others may share them.
    """
    held = _held([*parts, *(module for network in networks for module in network.modules())])
    before = [(thing, _contents(thing)) for thing in held]
    try:
        yield
    finally:
        for thing, contents in before:
            _put_back(thing, contents)


def _held(things: list[Any]) -> list[Any]:
    """The things themselves and what is in them, to _DEEPEST levels: whatever can be written in place."""
    found: dict[int, Any] = {}
    level = things
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for thing in level:
            if id(thing) in found or isinstance(thing, (nn.Parameter, type, ModuleType)):
                continue
            if isinstance(thing, dict):
                inner += thing.values()
            elif isinstance(thing, (list, tuple, set, collections.deque)):
                inner += thing
            elif isinstance(thing, torch.Tensor):
                if not thing.is_leaf:
                    continue
            elif isinstance(thing, np.ndarray):
                if not thing.flags.writeable:
                    continue
            elif hasattr(thing, "__dict__") and not inspect.isroutine(thing) and not _is_a_step(thing):
                inner += vars(thing).values()
            else:
                continue
            found[id(thing)] = thing
        level = inner
    return list(found.values())


def _is_a_step(thing: Any) -> bool:
    """Whether `accelerate` has put it there; what that prepares is kept."""
    return isinstance(thing, functools.partial) or type(thing).__module__.startswith("siamfast.compat")


def _contents(thing: Any) -> Any:
    if isinstance(thing, torch.Tensor):
        return thing.detach().clone()
    if isinstance(thing, (np.ndarray, dict, list, tuple, set, collections.deque)):
        return copy.copy(thing)
    return dict(vars(thing))


def _put_back(thing: Any, contents: Any) -> None:
    if isinstance(thing, np.ndarray):
        thing[...] = contents
    elif isinstance(thing, torch.Tensor):
        if not torch.equal(thing, contents):
            with torch.inference_mode(thing.is_inference()), torch.no_grad():
                thing.copy_(contents)
            if thing.grad_fn is not None and not thing._is_view():
                thing.detach_()  # what was written had a gradient
    elif isinstance(thing, set):
        thing.clear()
        thing.update(contents)
    elif isinstance(thing, (list, collections.deque)):
        if len(thing) != len(contents) or any(a is not b for a, b in zip(thing, contents, strict=True)):
            thing.clear()
            thing.extend(contents)
    elif not isinstance(thing, tuple):
        names = thing if isinstance(thing, dict) else vars(thing)
        if names.keys() != contents.keys() or any(names[name] is not contents[name] for name in contents):
            names.clear()
            names.update(contents)


def numbers(results: Any) -> Iterator[NDArray[np.float64]]:
    """Every number in nested dictionaries, sequences, arrays and tensors, as arrays."""
    if isinstance(results, torch.Tensor):
        yield results.detach().double().cpu().numpy()
    elif isinstance(results, dict):
        for value in results.values():
            yield from numbers(value)
    elif isinstance(results, (list, tuple)) and not all(isinstance(r, (int, float, np.number)) for r in results):
        for value in results:
            yield from numbers(value)
    elif results is not None and not isinstance(results, str):
        try:
            yield np.asarray(results, dtype=np.float64)
        except (TypeError, ValueError):  # an object of theirs
            return


def difference(before: Outcome, after: Outcome, *, rounding_only: bool = True) -> float | None:
    """The largest difference between two outcomes' numbers, or None where it is more than rounding explains.

    Not `rounding_only`: None where other numbers are there, or nan alone in one.

    Allowed: a thousandth of the largest number of an array, and no more than 0.05, since boxes are in pixels; of
    thousands, what float32 rounds in a network (2e-5).
    """
    if [r.shape for r in before.results] != [r.shape for r in after.results]:
        return None
    largest = 0.0
    for first, second in zip(before.results, after.results, strict=True):
        if first.size == 0:
            continue
        same = (first == second) | (np.isnan(first) & np.isnan(second))  # infinities among them
        gap = float(np.abs(np.subtract(first, second, where=~same, out=np.zeros_like(first))).max())
        scale = max(1.0, float(np.abs(first[np.isfinite(first)]).max(initial=0)))
        if not gap <= (max(min(0.05, 1e-3 * scale), 2e-5 * scale) if rounding_only else np.inf):  # one alone is nan
            return None
        largest = max(largest, gap)
    return largest
