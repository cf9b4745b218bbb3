"""Swap the correlations of a loaded project for ours, wherever it refers to them, and undo it.

Forks copy these functions and change them under the same name: another argument order, a padding, another result. So a
function is recognised by its name but checked by its results: it is swapped only if ours gives the same values and
gradients on random features of several shapes, and otherwise listed as left alone.
"""

from __future__ import annotations

import functools
import gc
import inspect
import sys
from types import ModuleType, TracebackType
from typing import Any

import torch

from siamfast.compat import hdn, lighttrack, nanotrack, pysot, siamdw, siamfc_pytorch
from siamfast.compat.recognition import is_one_product, probes, same_module, same_values, score_probes
from siamfast.compat.swapped import Correlation, Swapped, standing

# Our functions, in the order of trial; a project's function takes (search, template), or the other order.
_DEPTHWISE: tuple[Correlation, ...] = (pysot.xcorr_depthwise, nanotrack.xcorr_depthwise)
_PIXELWISE: tuple[Correlation, ...] = (nanotrack.xcorr_pixelwise,)
CANDIDATES: dict[str, tuple[Correlation, ...]] = {
    "xcorr_fast": (pysot.xcorr_fast,),
    "xcorr_slow": (pysot.xcorr_slow,),
    "xcorr_depthwise": _DEPTHWISE,
    "conv2d_dw_group": _DEPTHWISE,
    "depthwise_correlation": _DEPTHWISE,
    "xcorr_depthwise_circular": (hdn.xcorr_depthwise_circular,),
    "xcorr_pixelwise": _PIXELWISE,
    "pixel_corr": (lighttrack.pixel_corr,),
    "pixel_corr_mat": (lighttrack.pixel_corr_mat,),
    "_fast_xcorr": (siamfc_pytorch.fast_xcorr,),
    "_conv2d_group": (pysot.xcorr_fast,),
}
_OURS = frozenset(function for candidates in CANDIDATES.values() for function in candidates)
# Repositories whose package has another name, lower case, without separators.
PACKAGES = {
    "videoanalyst": "videoanalyst",
    "trackit": "models",
    "lighttrack": "lib",
    "siamfcpytorch": "siamfc",
    "siamcar": "pysot",
    "siamrpn": "pysot",
    "siamdw": "models",
    "nanotrack": "nanotrack",
    "siammask": "models",
    "siamban": "siamban",
    "pysot": "pysot",
    "hdn": "hdn",
    "mmtracking": "mmtrack",
    "siamtrackers": "nanotrack",
    "ocean": "models",
    "siamfc++": "videoanalyst",
    "siamfcpp": "videoanalyst",
}
# Repositories whose networks have no function to swap.
_REPOSITORIES_INSIDE = ("dasiamrpn", "updatenet")
_INSIDE = "where a network calls F.conv2d inside `forward`, docs/trackers.md has the line to put in its place"
# Whole modules, whose `forward` is swapped: heads that correlate inside it, and losses.
HEADS: dict[str, type[torch.nn.Module]] = {"Corr_Up": siamdw.Corr_Up}
LOSSES: dict[str, type[torch.nn.Module]] = {
    "BalancedLoss": siamfc_pytorch.BalancedLoss,
    "FocalLoss": siamfc_pytorch.FocalLoss,
    "OHNMLoss": siamfc_pytorch.OHNMLoss,
}
_MODULES = HEADS | LOSSES
_DIFFERENT = "its values or gradients differ from a plain correlation's"


class Patch:
    """The changes of `patch`; `undo()` or leaving the `with` block reverts them.

    swapped: "module.name -> siamfast's function", one line per place. left: "module.name: why", functions with a known
    name that do something else, or that ours would not make faster.
    """

    def __init__(self) -> None:
        self.swapped: list[str] = []
        self.left: list[str] = []
        self._before: list[tuple[Any, str, Any, Any]] = []
        self._originals: list[tuple[Any, Any]] = []

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def undo(self) -> None:
        """Restore everything, also in modules and models that were made meanwhile; a second call does nothing."""
        while self._before:
            holder, name, before, ours = self._before.pop()
            if vars(holder).get(name) is ours:  # not what was put there since, by a reload for example
                setattr(holder, name, before)
        while self._originals:
            swapped, original = self._originals.pop()
            standing[:] = [other for other in standing if other is not swapped]
            for holder, name in _references(swapped):
                setattr(holder, name, original)

    def rebind(self, original: Any, ours: Any, key: str, module: ModuleType, owner: type | None = None) -> None:
        """Put `ours` in the place of `original`, the function `key` of `module` or the method of its class `owner`."""
        if owner is not None:
            self._set(owner, key, ours, f"{module.__name__}.{owner.__qualname__}", ours)
            return
        project = module.__name__.partition(".")[0]
        for holder, name in _references(original):
            place = holder.__name__ if isinstance(holder, ModuleType) else type(holder).__qualname__
            # A variable of the user's that keeps the original under another name is kept for something.
            outside = isinstance(holder, ModuleType) and place.partition(".")[0] != project
            if not (outside and name != key):
                self._set(holder, name, ours, place, getattr(ours, "function", ours))
        self._originals.append((ours, original))
        if isinstance(ours, Swapped):  # crops are rebound too
            standing.append(ours)

    def _set(self, holder: Any, name: str, value: Any, place: str, ours: Any) -> None:
        before = vars(holder)[name]
        setattr(holder, name, value)
        self._before.append((holder, name, before, vars(holder)[name]))
        self.swapped.append(f"{place}.{name} -> {ours.__module__}.{ours.__qualname__}")


class AlreadyPatchedError(ValueError):
    """The project is patched; `undo()` comes first."""


def patch(project: str | ModuleType) -> Patch:
    """Swap the known correlations of a loaded project for ours.

    Args:
        project: the project's module or its dotted name; its loaded submodules count as part of it. Import what you
            use first: modules that are not loaded are not patched. Your own modules count where they have imported a
            function under its own name, and models where they keep one as an attribute.

    Returns:
        A `Patch`: the swapped functions, those left alone and why, and `undo`. Also a context manager.

    Raises:
        TypeError: not a module or a name. ValueError: no such module is loaded, it is patched already, or it has no
            function of a known name.

    >>> import sys, types, siamfast.compat, torch.nn.functional as F
    >>> module = types.ModuleType("a_tracker")
    >>> def xcorr_fast(x, kernel):
    ...     out = F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernel.reshape(-1, x.shape[1], *kernel.shape[2:]),
    ...                    groups=len(x))
    ...     return out.reshape(len(x), -1, *out.shape[2:])
    >>> module.xcorr_fast, sys.modules["a_tracker"] = xcorr_fast, module
    >>> with siamfast.compat.patch("a_tracker") as done:
    ...     done.swapped
    ['a_tracker.xcorr_fast -> siamfast.compat.pysot.xcorr_fast']
    >>> module.xcorr_fast is xcorr_fast
    True
    """
    if isinstance(project, ModuleType):
        name = project.__name__
    elif isinstance(project, str):
        name = project
    else:
        raise TypeError(f"project: got {type(project).__name__}, expected a module or its name")
    if name == "siamfast":
        raise ValueError(f"project: got {name!r}, expected another project's package")
    modules = [m for n, m in list(sys.modules.items()) if (n == name or n.startswith(name + ".")) and m is not None]
    if isinstance(project, ModuleType) and project not in modules:
        modules.append(project)
    if not modules:
        repository = "".join(c for c in name.lower() if c.isalnum() or c == "+")
        package = PACKAGES.get(repository, name)
        hint = f"; the package of that repository is {package!r}" if package != name else ""
        hint = f"; but {_INSIDE}" if repository in _REPOSITORIES_INSIDE else hint
        raise ValueError(f"project: no module {name!r} is loaded; import it first{hint}")
    if any(map(_is_patched, modules)):
        raise AlreadyPatchedError(f"project: {name!r} is patched already; undo() that patch(), or accelerate(), first")
    done = Patch()
    visited: set[int] = set()
    for module in modules:
        for key, value in list(vars(module).items()):
            if id(value) in visited or not callable(value) or _is_ours(getattr(value, "__wrapped__", value)):
                continue
            if key in CANDIDATES and inspect.isfunction(value):
                visited.add(id(value))
                _swap_function(done, module, key, value)
            elif inspect.isclass(value) and value.__module__ == module.__name__:
                visited.add(id(value))
                _swap_methods(done, module, value)
    if not done.swapped and not done.left:
        imported = {f"{m.__name__}.{key}" for m in modules for key, value in vars(m).items() if _is_ours(value)}
        if imported:
            raise ValueError(
                f"project: {name!r} has imported siamfast's functions already: {', '.join(sorted(imported))}"
            )
        raise ValueError(f"project: {name!r} has none of {', '.join((*CANDIDATES, *_MODULES))}; {_INSIDE}")
    return done


def _is_ours(value: Any) -> bool:
    return any(value is function for function in _OURS)  # not `in`, which hashes: not every callable allows it


def _is_patched(module: ModuleType) -> bool:
    """Whether a patch stands in place of a function of the module or of a method of its classes."""
    if any(isinstance(value, Swapped) for value in vars(module).values()):
        return True
    forwards = [head.forward for head in _MODULES.values()]
    classes = [
        value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__
    ]
    methods = [method for owner in classes for method in vars(owner).values() if inspect.isfunction(method)]
    return any(method in forwards or _is_ours(getattr(method, "__wrapped__", None)) for method in methods)


def _swap_function(done: Patch, module: ModuleType, key: str, original: Correlation) -> None:
    ours = same_values(original, CANDIDATES[key])
    if ours is None:
        done.left.append(f"{module.__name__}.{key}: {_DIFFERENT}")
        return
    if is_one_product(original):
        done.left.append(f"{module.__name__}.{key}: one matrix product already, which ours is too")
        return
    done.rebind(original, ours, key, module)


def _references(original: Any) -> list[tuple[Any, str]]:
    """Where `original` is bound: names in loaded modules, by `from ... import`, and attributes of live models."""
    modules = [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    live = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.nn.Module)]
    holders: list[Any] = [*modules, *live]
    return [(holder, name) for holder in holders for name, value in list(vars(holder).items()) if value is original]


def _swap_methods(done: Patch, module: ModuleType, owner: type) -> None:
    place = f"{module.__name__}.{owner.__qualname__}"
    if owner.__name__ in _MODULES and "forward" in vars(owner):
        head = _MODULES[owner.__name__]
        of_head = owner.__name__ in HEADS
        pairs = [(z, x) for x, z in probes()] if of_head else score_probes()
        if same_module(owner, head, pairs, 2 if of_head else 1):
            done._set(owner, "forward", head.forward, place, head.forward)
        else:
            done.left.append(f"{place}.forward: its values or gradients differ from {head.__module__}'s")
        return
    for key in CANDIDATES:
        method = vars(owner).get(key)
        if method is None or not inspect.isfunction(method):
            continue
        bound = functools.partial(method, None)  # none of the known ones uses `self`
        ours = same_values(bound, CANDIDATES[key])
        if ours is None:
            done.left.append(f"{place}.{key}: {_DIFFERENT}")
            continue
        done._set(owner, key, _as_method(ours), place, ours.function)


def _as_method(function: Swapped) -> Correlation:
    @functools.wraps(function.function)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return method
