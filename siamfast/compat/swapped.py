"""What stands in a project's place of a function: one of ours, in its argument order, known by the patch that put it
there."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

Correlation = Callable[..., Any]


class Swapped:
    """Calls one of our functions. Each patch makes its own, so that undoing it finds where else it has got to.

    It pickles as what it calls, and keeps no reference to the patch.

    Args:
        function: ours. turned: whether its first two arguments come in the other order.
        original: the project's function, whose names of the two are taken too.
    """

    def __init__(self, function: Correlation, *, turned: bool = False, original: Correlation | None = None) -> None:
        self.function, self.turned, self.original = function, turned, original
        self.names = () if original is None else tuple(inspect.signature(original).parameters)[:2]
        self.of = f"{getattr(original, '__module__', '')}.{getattr(original, '__qualname__', '')}"
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) + len(kwargs) > 2 and self.original is not None:
            return self.original(*args, **kwargs)  # a fork's own option, which was not compared with ours
        if kwargs:
            args += tuple(kwargs.pop(name) for name in self.names[len(args) : 2] if name in kwargs)
        if self.turned and len(args) > 1:
            args = (args[1], args[0], *args[2:])
        return self.function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.function, self.turned, self.of)

    def __deepcopy__(self, memo: dict[int, Any]) -> Swapped:
        return self  # as functions are


# Those of patches that stand, so that what is loaded meanwhile refers to them, and is put back with them.
standing: list[Swapped] = []


def _restored(function: Correlation, turned: bool, of: str = "") -> Correlation:
    for swapped in standing:
        if (swapped.function, swapped.turned, swapped.of) == (function, turned, of):
            return swapped
    return Swapped(function, turned=True) if turned else function
