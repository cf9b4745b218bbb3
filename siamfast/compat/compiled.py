"""Parts of someone else's network by `torch.compile`, with their weights as constants."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from siamfast.compat.convolutions import recorded


def whole_parts(network: nn.Module) -> Iterator[nn.Module]:
    """The network's parts, as far up as they are called: of a ModuleList each, since nobody calls the list."""
    for part in network.children():
        if isinstance(part, (nn.ModuleList, nn.ModuleDict)):
            yield from whole_parts(part)
        elif "forward" not in vars(part):
            yield part


class Compiled:
    """Stands in for `module.forward`: compiled for inference, again after new weights.

    Under autograd and while a graph is recorded the original runs.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._forget()

    def _forget(self) -> None:
        self._call: Callable[..., Any] | None = None
        self._kept: list[Any] = []  # dictionaries of tensors
        self._versions: list[tuple[int, int]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"module": self.module}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward = type(self.module).forward
        learns = torch.is_grad_enabled() or self.module.training
        if learns or recorded():
            if learns:  # fused optimizers and BatchNorm write without a new version
                self._call = None
            return forward(self.module, *args, **kwargs)
        if not self._kept:  # walking the modules in each call would take a millisecond
            self._kept = [values for m in self.module.modules() for values in (m._parameters, m._buffers)]
        tensors = (tensor for values in self._kept for tensor in values.values() if tensor is not None)
        try:
            versions = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        except RuntimeError:  # inference tensors have no version
            return forward(self.module, *args, **kwargs)
        if self._call is None or versions != self._versions:
            self._versions = versions
            bound = functools.partial(forward, self.module)
            self._call = torch.compile(bound, dynamic=False, options={"freezing": True})
        return self._call(*args, **kwargs)
