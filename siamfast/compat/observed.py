"""Which BatchNorm and which activation follow which convolution, seen while a network runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from siamfast.compat.convolutions import ACTIVATIONS, can_fold, can_stand_in


class Chain(NamedTuple):
    """A convolution and what alone takes its result, in order."""

    convolution: nn.Conv2d
    norm: nn.BatchNorm2d | None
    activation: nn.Module | None


def chains(networks: list[nn.Module], run: Callable[[], Any]) -> list[Chain]:
    """The chains of the convolutions that `run()` calls.

    A module belongs to a chain if in every call it takes the very tensor that the chain has made, and no other module
    does. What is not a module (`x + y`, `torch.cat`) may take it unseen: the caller compares results.
    """
    made: dict[int, nn.Module] = {}
    kept: list[torch.Tensor] = []  # an id is one tensor's only while the tensor lives
    takers: defaultdict[nn.Module, set[nn.Module]] = defaultdict(set)
    sources: defaultdict[nn.Module, set[nn.Module | None]] = defaultdict(set)
    calls: defaultdict[nn.Module, int] = defaultdict(int)

    def observe(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls[module] += 1
        for tensor in inputs:
            source = made.get(id(tensor))
            sources[module].add(source)
            if source is not None:
                takers[source].add(module)
        if isinstance(output, torch.Tensor):
            made[id(output)] = module
            kept.append(output)

    leaves = {leaf for network in networks for leaf in network.modules() if not any(True for _ in leaf.children())}
    handles = [leaf.register_forward_hook(observe) for leaf in leaves]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()

    def follower(module: nn.Module) -> nn.Module | None:
        if len(takers[module]) != 1:
            return None
        (taker,) = takers[module]
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
