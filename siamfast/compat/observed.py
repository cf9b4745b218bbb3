"""Which BatchNorm and which activation follow which convolution, seen while a network runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from siamfast.compat.convolutions import ACTIVATIONS, can_fold, can_stand_in


class Chain(NamedTuple):
    """A convolution and what alone takes its result, in order."""

    convolution: nn.Conv2d
    norm: nn.BatchNorm2d | None
    activation: nn.Module | None


# Results that say what a tensor is like, and nothing of its values.
_DESCRIPTIONS = (int, torch.Size, torch.dtype, torch.device, torch.layout)


class _Functions(TorchFunctionMode):
    """Reports the tensors that each function of PyTorch takes."""

    def __init__(self, report: Callable[[Any, Iterable[Any]], None]) -> None:
        super().__init__()
        self._report = report

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not isinstance(result, _DESCRIPTIONS):
            self._report(func, [*args, *kwargs.values()])
        return result


def chains(networks: list[nn.Module], run: Callable[[], Any]) -> list[Chain]:
    """The chains of the convolutions that `run()` calls.

    A module belongs to a chain if in every call it takes the very tensor that the chain has made, and nothing else
    does: no other module, and no function outside of it (`x + y`, `torch.cat`).
    """
    made: dict[int, nn.Module] = {}
    kept: list[torch.Tensor] = []  # an id is one tensor's only while the tensor lives
    takers: defaultdict[nn.Module, set[Any]] = defaultdict(set)
    sources: defaultdict[nn.Module, set[nn.Module | None]] = defaultdict(set)
    calls: defaultdict[nn.Module, int] = defaultdict(int)

    running: list[nn.Module] = []

    def take(taker: Any, inputs: Iterable[Any]) -> None:
        for value in inputs:
            if isinstance(value, (list, tuple)):
                take(taker, value)
            elif isinstance(value, torch.Tensor) and id(value) in made:
                takers[made[id(value)]].add(running[-1] if running else taker)

    def start(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        calls[module] += 1
        sources[module] |= {made.get(id(value)) for value in inputs}
        running.append(module)
        take(module, inputs)

    def finish(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        running.pop()
        if isinstance(output, torch.Tensor):
            made[id(output)] = module
            kept.append(output)

    leaves = {leaf for network in networks for leaf in network.modules() if not any(True for _ in leaf.children())}
    handles = [leaf.register_forward_pre_hook(start) for leaf in leaves]
    handles += [leaf.register_forward_hook(finish) for leaf in leaves]
    try:
        with _Functions(take):
            run()
    finally:
        for handle in handles:
            handle.remove()

    def follower(module: nn.Module) -> nn.Module | None:
        if len(takers[module]) != 1:
            return None
        (taker,) = takers[module]
        if not isinstance(taker, nn.Module):
            return None
        alone = sources[taker] == {module} and calls[taker] == calls[module] and not taker.training
        return taker if alone and not taker._forward_pre_hooks else None

    found = []
    for module in calls:
        if not can_stand_in(module) or module.training or module._forward_hooks:
            continue
        assert isinstance(module, nn.Conv2d)
        norm = follower(module)
        norm = norm if norm is not None and can_fold(norm) else None
        last = module if norm is None else norm
        activation = None if last._forward_hooks else follower(last)
        chosen = activation if type(activation) in ACTIVATIONS and "forward" not in vars(activation) else None
        found.append(Chain(module, norm, chosen))  # type: ignore[arg-type]
    return found
