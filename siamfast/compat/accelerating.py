"""Make someone else's siamese tracker faster on a CPU, in place, with the same boxes, and undo it."""

from __future__ import annotations

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

import torch
from torch import nn

from siamfast.compat import crops, trial
from siamfast.compat.convolutions import FastConvolution, Skipped
from siamfast.compat.observed import chains
from siamfast.compat.patching import Patch, patch

_METHODS = ("init", "track", "update", "template")  # what a tracker or its network does per sequence and frame
# Fewer products and more memory traffic: whether that pays depends on the CPU. A clock that is off by less than this
# does not decide.
_FILTERING, _SLOWER = "minimal filtering", 1.05
_NOT_THEIRS = ("torch", "torchvision", "timm", "siamfast", "builtins", "numpy", "cv2", "functools")
# By id, what standing accelerations have put in place. Weak, so that a tracker that is dropped goes.
_standing: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class Step(NamedTuple):
    """One change that `accelerate` tried."""

    name: str
    details: str
    seconds: float  # a frame of the trial, with this step and those before
    difference: float | None  # of the results from those before, in pixels for boxes; None: left out, `details` say why


class Acceleration:
    """The changes of `accelerate`; `undo()` or leaving the `with` block reverts them.

    steps: what was tried, in order; the first is the tracker as it was.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Acceleration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    @property
    def speedup(self) -> float:
        """How many times faster a frame of the trial has become."""
        return self.steps[0].seconds / self.steps[-1].seconds

    def undo(self) -> None:
        """Restore the tracker; a second call does nothing."""
        self._undo_from(0)

    def _undo_from(self, start: int) -> None:
        while len(self._undo) > start:
            self._undo.pop()()

    def report(self) -> str:
        """A table: a frame's time after each step, what the step gained, and by how much results changed."""
        lines = [f"{'step':<22}{'ms a frame':>11}{'step':>8}{'in all':>8}  largest change"]
        first = before = self.steps[0].seconds
        for step in self.steps:
            change = f"{step.difference:.1e}" if step.difference is not None else "left out"
            gained, total = before / step.seconds, first / step.seconds
            details = f"  {step.details}" if step.details else ""
            lines.append(f"{step.name:<22}{1e3 * step.seconds:>11.2f}{gained:>7.2f}x{total:>7.2f}x  {change}{details}")
            before = step.seconds
        return "\n".join(lines)


def accelerate(*parts: Any, trial_run: Callable[[], Any] | None = None, minimal_filtering: bool = True) -> Acceleration:
    """Make a siamese tracker, yours or another project's, faster on a CPU without changing its boxes.

    Each step is tried on a short clip of noise, and left out where a result changes by more than float32's rounding:

    - crops: a project's crop pads the part of the frame that its window reads, not the frame;
    - correlations: `patch` of the project's package;
    - gradients: none in `init`, `track`, `update` and `template`;
    - convolutions: BatchNorm folded in, activation in place, channels_last pixels, weights reordered once;
    - minimal filtering: 3x3 and 5x5 convolutions with a quarter to a sixth of the products (Lavin and Gray 2016).

    The parameters, the module tree and `state_dict` stay as they are; new weights that are loaded later are used. In
    training, on a GPU and in other dtypes than float32 the original modules run.

    Args:
        parts: the tracker, which keeps its network as an attribute, with `init(frame, box)` and `update(frame)` or
            `track(frame)`; or a network with `template(crop)` and `track(crop)`. Where tracker and network are apart,
            both, with `trial_run`.
        trial_run: what to try instead of the clip: called without arguments some twenty times, it runs the tracker for
            three frames or so and returns the results to compare.
        minimal_filtering: its weights take four times the memory (3x3), and its results differ by 5e-6 of the largest.
            It is left out where the trial is slower with it.

    Returns:
        An `Acceleration`: `report()`, `undo()`, also a context manager.

    Raises:
        TypeError: nothing to accelerate, or no network in it. ValueError: it is accelerated already, or cannot be tried
            so: pass `trial_run`; or that returns no numbers, or others each time.

    >>> import torch, siamfast.compat
    >>> class Network(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.backbone = torch.nn.Sequential(
    ...             torch.nn.Conv2d(3, 8, 3, 4), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    ...     def template(self, z):
    ...         self.kernel = self.backbone(z)
    ...     def track(self, x):
    ...         return torch.nn.functional.conv2d(self.backbone(x), self.kernel)
    >>> with siamfast.compat.accelerate(Network().eval()) as faster:
    ...     [step.name for step in faster.steps]
    ['as it was', 'gradients', 'convolutions']
    """
    networks = _networks(list(parts))
    modules = [module for network in networks for module in network.modules()]
    _clean_copies([*parts, *modules])
    if any(isinstance(vars(module).get("forward"), FastConvolution) for module in modules):
        raise ValueError("parts: this network is accelerated already; undo() that first")
    run = trial_run if trial_run is not None else _default_trial(parts)
    hint = "" if trial_run is not None else "; pass trial_run, a function that runs the tracker and returns its boxes"
    done = Acceleration()
    try:
        before = trial.measure(run, list(parts), networks)
    except Exception as error:
        raise ValueError(f"parts: the trial ended in {type(error).__name__}: {error}{hint}") from error
    culprit = "parts: the trial" if trial_run is None else "trial_run"
    if not before.results:
        raise ValueError(f"{culprit} returned no numbers, expected boxes{hint}")
    if not before.repeatable:
        raise ValueError(f"{culprit} returned other results when it ran again, expected the same{hint}")
    done.steps.append(Step("as it was", "", before.seconds, 0.0))

    classes = {owner for part in (*parts, *modules) for owner in type(part).__mro__}
    packages = sorted({owner.__module__.partition(".")[0] for owner in classes} - set(_NOT_THEIRS))
    # Each changes what it finds, and says what, or nothing where there was nothing to do.
    steps: list[tuple[str, Callable[[Acceleration], str]]] = [
        ("crops", functools.partial(_crops, packages=packages)),
        ("correlations", functools.partial(_correlations, packages=packages)),
        ("gradients", functools.partial(_gradients, holders=[*parts, *networks])),
        ("convolutions", functools.partial(_convolutions, run=run, parts=list(parts), networks=networks)),
    ]
    if minimal_filtering:
        steps.append((_FILTERING, functools.partial(_minimal_filtering, modules=modules)))
    for name, change in steps:
        mark = len(done._undo)
        try:
            details = change(done)
            if len(done._undo) == mark:
                if details:
                    done.steps.append(Step(name, details, done.steps[-1].seconds, None))
                continue
            after = trial.measure(run, list(parts), networks)
            gap = trial.difference(before, after)
            reason = "" if gap is not None else f"{details}: results change"
            if name == _FILTERING and after.seconds > _SLOWER * done.steps[-1].seconds:
                gap, reason = None, f"{details}: {1e3 * after.seconds:.2f} ms a frame, slower on this CPU"
        except (KeyboardInterrupt, SystemExit, MemoryError):
            done.undo()
            raise
        except Exception as error:  # a network that cannot take the step, in whatever way
            gap, reason = None, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if gap is None:
            done._undo_from(mark)
            done.steps.append(Step(name, reason, done.steps[-1].seconds, None))
        else:
            done.steps.append(Step(name, details, after.seconds, gap))
    return done


def _clean_copies(holders: list[Any]) -> None:
    """Remove what a copy has got of an accelerated tracker: the original's `undo` does not know it."""
    for holder in holders:
        for name, value in list(getattr(holder, "__dict__", {}).items()):
            ours = isinstance(value, (FastConvolution, Skipped)) or (
                isinstance(value, functools.partial) and value.func is _without_gradients
            )
            if ours and _standing.get(id(value)) is not value:
                delattr(holder, name)


def _networks(parts: list[Any]) -> list[nn.Module]:
    """The networks among the parts and in their attributes."""
    if not parts:
        raise TypeError("parts: got nothing, expected a tracker or a network")
    found: list[nn.Module] = []
    seen: set[int] = set()
    todo = [(part, 0) for part in parts]
    while todo:
        thing, depth = todo.pop(0)
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            found.append(thing)
        elif depth < 4 and not isinstance(thing, (type, ModuleType)):
            values = thing.values() if isinstance(thing, dict) else getattr(thing, "__dict__", {}).values()
            todo += [(value, depth + 1) for value in list(values)]
    if not found:
        names = ", ".join(type(part).__name__ for part in parts)
        raise TypeError(f"parts: got {names}, expected a tracker that keeps a torch.nn.Module, or such a network")
    return found


def _default_trial(parts: tuple[Any, ...]) -> Callable[[], Any]:
    first = parts[0]
    if len(parts) == 1 and isinstance(first, nn.Module) and hasattr(first, "template") and hasattr(first, "track"):
        return trial.of_network(first)
    if len(parts) == 1 and hasattr(first, "init") and (hasattr(first, "update") or hasattr(first, "track")):
        return trial.of_tracker(first)
    names = ", ".join(type(part).__name__ for part in parts)
    raise ValueError(
        f"parts: got {names}, expected a tracker with init and track (or update) or a network with template and track; "
        "else pass trial_run"
    )


def _loaded(packages: list[str]) -> list[ModuleType]:
    names = tuple(packages)
    return [m for n, m in list(sys.modules.items()) if n.partition(".")[0] in names and isinstance(m, ModuleType)]


def _crops(done: Acceleration, packages: list[str]) -> str:
    swaps = Patch()
    for module, owner, name, function in crops.known(_loaded(packages)):
        ours = crops.near_crop(function, name, of_class=owner is not None)
        if ours is None:
            swaps.left.append(f"{module.__name__}.{name}")
        else:
            swaps.rebind(function, ours, name, module, owner)
    return _kept_swaps(done, [swaps])


def _kept_swaps(done: Acceleration, swaps: list[Patch]) -> str:
    """What was swapped and what was left, in words; nothing if there was neither."""
    swapped = [place for each in swaps for place in each.swapped]
    left = [place for each in swaps for place in each.left]
    done._undo += [each.undo for each in swaps if each.swapped]
    if not swapped and not left:
        return ""
    return f"{len(swapped)} places" + (f", as it was: {', '.join(left)}" if left else "")


def _correlations(done: Acceleration, packages: list[str]) -> str:
    made = []
    for package in packages:
        with contextlib.suppress(ValueError):  # no known function, or patched already
            made.append(patch(package))
    return _kept_swaps(done, made)


def _without_gradients(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # Not inference_mode: a template that it made could not be used after undo().
    with torch.no_grad():
        return method(*args, **kwargs)


def _gradients(done: Acceleration, holders: list[Any]) -> str:
    count = 0
    for holder in {id(holder): holder for holder in holders}.values():
        for name in _METHODS:
            if _from_class(holder, name):
                _put(done, holder, name, functools.partial(_without_gradients, getattr(holder, name)))
                count += 1
    return f"none in {count} methods" if count else ""


def _from_class(holder: Any, name: str) -> bool:
    """Whether `holder` gets the method `name` from its class alone and can have one of its own."""
    return callable(getattr(type(holder), name, None)) and name not in getattr(holder, "__dict__", {name: None})


def _put(done: Acceleration, holder: Any, name: str, ours: Callable[..., Any]) -> None:
    setattr(holder, name, ours)
    _standing[id(ours)] = ours
    done._undo.append(functools.partial(_remove, holder, name, ours))


def _remove(holder: Any, name: str, ours: Any) -> None:
    _standing.pop(id(ours), None)
    if vars(holder).get(name) is ours:  # not what was put there since
        delattr(holder, name)


def _convolutions(done: Acceleration, run: Callable[[], Any], parts: list[Any], networks: list[nn.Module]) -> str:
    with trial.untouched(parts, networks):
        found = chains(networks, run)
    for chain in found:
        _put(done, chain.convolution, "forward", FastConvolution(*chain))
        for module in chain[1:]:
            if module is not None:
                _put(done, module, "forward", Skipped(module))
    norms, activations = (sum(chain[i] is not None for chain in found) for i in (1, 2))
    return f"{len(found)}, with {norms} BatchNorms and {activations} activations" if found else ""


def _minimal_filtering(done: Acceleration, modules: list[nn.Module]) -> str:
    fast = [forward for module in modules if isinstance(forward := vars(module).get("forward"), FastConvolution)]
    eligible = [forward for forward in fast if forward.can_filter()]
    for forward in eligible:
        forward.set_filtering(True)
        done._undo.append(functools.partial(forward.set_filtering, False))
    return f"{len(eligible)} convolutions" if eligible else ""
