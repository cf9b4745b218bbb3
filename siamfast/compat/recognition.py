"""Tell by its results on random features what another project's function computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from siamfast.compat.swapped import Correlation, Swapped


def probes() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(search, template) of one and two pairs, rectangular, so that no other function gives the same shapes and
    values."""
    generator = torch.Generator().manual_seed(0)
    for batch, z, x in ((2, (3, 2), (8, 7)), (1, (4, 4), (6, 9))):
        yield (
            torch.randn(batch, 3, *x, generator=generator),
            torch.randn(batch, 3, *z, generator=generator),
        )


def _agree(first: Correlation, second: Correlation, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    try:
        with torch.no_grad():
            results = [(first(a.clone(), b.clone()), second(a, b)) for a, b in pairs]
    except Exception:  # a fork that raises anything is not the function we know
        return False
    return all(
        isinstance(a, torch.Tensor) and a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-4)
        for a, b in results
    )


class _Recorder(TorchDispatchMode):
    """The operations that PyTorch runs meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def is_one_product(original: Correlation) -> bool:
    """Whether a correlation that is known to be right is a single matrix product of its arguments' views."""
    pair = next(probes())
    names: list[str] = []
    for arguments in (pair, pair[::-1]):  # one of the orders is theirs
        with contextlib.suppress(Exception), torch.no_grad(), _Recorder() as recorder:
            original(*arguments)
            names = recorder.names
            break
    costly = [name for name in names if "convolution" in name or name in ("bmm", "mm", "mul", "baddbmm")]
    return costly == ["bmm"]


def same_values(original: Correlation, candidates: tuple[Correlation, ...]) -> Swapped | None:
    """The first of ours that gives what `original` gives, in its order of arguments; None: there is none."""
    pairs = list(probes())
    turned = [(z, x) for x, z in pairs]
    for ours in candidates:
        for call in (Swapped(ours, original=original), Swapped(ours, turned=True, original=original)):
            for order in (pairs, turned):
                if _agree(original, call, order):
                    return call
    return None


def score_probes() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(scores, labels) of a batch, with each label twice at least."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 1, 6, 5, generator=generator) * 3
    return [(scores, (torch.rand(scores.shape, generator=generator) < 0.2).float())]


def same_module(owner: type, ours: type, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    """Whether the modules that two classes make by themselves give the same, in training and in evaluation."""
    try:
        their_module, our_module = owner(), ours()
    except Exception:
        return False
    return all(_agree(their_module.train(mode), our_module.train(mode), pairs) for mode in (True, False))
