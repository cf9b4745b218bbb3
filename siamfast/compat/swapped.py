"""What stands in a project's place of a function: one of ours, in its argument order, known by the patch that put it
there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

Correlation = Callable[..., Any]


class Swapped:
    """Calls one of our functions. Each patch makes its own, so that undoing it finds where else it has got to.

    It pickles as what it calls, and keeps no reference to the patch.
    """

    def __init__(self, function: Correlation, *, turned: bool = False) -> None:
        self.function, self.turned = function, turned
        functools.update_wrapper(self, function)

    def __call__(self, first: Any, second: Any, *args: Any, **kwargs: Any) -> Any:
        if self.turned:
            first, second = second, first
        return self.function(first, second, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.function, self.turned)

    def __deepcopy__(self, memo: dict[int, Any]) -> Swapped:
        return self  # as functions are


def _restored(function: Correlation, turned: bool) -> Correlation:
    return Swapped(function, turned=True) if turned else function
