"""Make someone else's siamese tracker faster on a CPU, in place, with the same boxes, and undo it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

from torch import nn

from siamfast.compat import changes, reduced, trial
from siamfast.compat.convolutions import FastConvolution

# Fewer products and more memory traffic: whether that pays depends on the CPU. A clock that is off by less than this
# does not decide.
_FILTERING, _COMPILED, _SLOWER = "minimal filtering", "torch.compile", 1.05
_NOT_THEIRS = ("torch", "torchvision", "timm", "siamfast", "builtins", "numpy", "cv2", "functools")


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


def accelerate(
    *parts: Any,
    trial_run: Callable[[], Any] | None = None,
    minimal_filtering: bool = True,
    precision: str = "float32",
    compiled: bool = False,
) -> Acceleration:
    """Make a siamese tracker, yours or another project's, faster on a CPU without changing its boxes.

    Each step is tried on a short clip of noise, and left out where a result changes by more than float32's rounding:

    - crops: a project's crop pads the part of the frame that its window reads, not the frame;
    - correlations: `patch` of the project's package;
    - gradients: none in `init`, `track`, `update` and `template`;
    - convolutions: BatchNorm folded in, activation in place, channels_last pixels, weights reordered once;
    - minimal filtering: 3x3 and 5x5 convolutions with a quarter to a sixth of the products (Lavin and Gray 2016);
    - precision: on request, large convolutions in 8 bits or bfloat16. This step alone changes boxes; `init` and
      `template` stay in float32;
    - torch.compile: on request, the network's parts with their weights as constants, in place of our convolutions.

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
        precision: "float32"; "int8", for CPUs with AVX-512 VNNI; "bfloat16", for CPUs with instructions for it. It is
            left out where the trial is slower with it.
        compiled: also try `torch.compile`, which needs a C++ compiler and takes a minute or more here, and again after
            new weights. It is left out where the trial is slower with it.

    Returns:
        An `Acceleration`: `report()`, `undo()`, also a context manager.

    Raises:
        TypeError: nothing to accelerate, or no network in it. ValueError: it is accelerated already, or cannot be tried
            so: pass `trial_run`; or that returns no numbers, or others each time; a precision that is unknown or slow
            on this CPU.

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
    if precision not in reduced.PRECISIONS:
        raise ValueError(f"precision: got {precision!r}, expected one of {', '.join(reduced.PRECISIONS)}")
    missing = reduced.missing(precision)
    if missing is not None:
        raise ValueError(f"precision: got {precision!r}, but {missing}")
    networks = _networks(list(parts))
    modules = [module for network in networks for module in network.modules()]
    changes.clean_copies([*parts, *modules])
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
    steps: list[tuple[str, Callable[[changes.Undo], str]]] = [
        ("crops", functools.partial(changes.swap_crops, packages=packages)),
        ("correlations", functools.partial(changes.swap_correlations, packages=packages)),
        ("gradients", functools.partial(changes.drop_gradients, holders=[*parts, *networks])),
        ("convolutions", functools.partial(changes.swap_convolutions, run=run, parts=list(parts), networks=networks)),
    ]
    if minimal_filtering:
        steps.append((_FILTERING, functools.partial(changes.use_minimal_filtering, modules=modules)))
    if precision != "float32":
        steps.append((precision, functools.partial(changes.use_precision, modules=modules, precision=precision)))
    if compiled:
        steps.append((_COMPILED, functools.partial(changes.compile_parts, networks=networks)))
    for name, change in steps:
        mark = len(done._undo)
        try:
            details = change(done._undo)
            if len(done._undo) == mark:
                if details:
                    done.steps.append(Step(name, details, done.steps[-1].seconds, None))
                continue
            after = trial.measure(run, list(parts), networks)
            gap = trial.difference(before, after, rounding_only=name != precision)
            reason = "" if gap is not None else f"{details}: results change"
            if name in (_FILTERING, precision, _COMPILED) and after.seconds > _SLOWER * done.steps[-1].seconds:
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
