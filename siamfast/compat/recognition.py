"""Tell by its results on random features what another project's function computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from siamfast.compat.swapped import Correlation, Swapped

Pairs = list[tuple[torch.Tensor, torch.Tensor]]


def probes(kernels: int = 1) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(search, template) of one and two pairs, rectangular, so that no other function gives the same shapes and
    values; templates of that many kernels."""
    generator = torch.Generator().manual_seed(0)
    for batch, z, x in ((2, (3, 2), (8, 7)), (1, (4, 4), (6, 9))):
        yield (
            torch.randn(batch, 3, *x, generator=generator),
            torch.randn(batch, 3 * kernels, *z, generator=generator),
        )


def _results(function: Correlation, pairs: Pairs, learn: int) -> list[torch.Tensor | None] | None:
    """What it gives for each pair, and the gradients of the first `learn` arguments; None: it raises."""
    results: list[torch.Tensor | None] = []
    try:
        with torch.enable_grad():
            for pair in pairs:
                given = [t.clone().requires_grad_(number < learn) for number, t in enumerate(pair)]
                output = function(*given)
                slope = torch.linspace(0.5, 1.5, output.numel()).view(output.shape)
                results += output.detach(), *torch.autograd.grad(output, given[:learn], slope, allow_unused=True)
    except Exception:  # a fork that raises anything is not the function we know
        return None
    return results


def _same(first: list[torch.Tensor | None], second: list[torch.Tensor | None]) -> bool:
    return all(
        a is b if a is None or b is None else a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-4)
        for a, b in zip(first, second, strict=True)
    )


def _agree(first: Correlation, second: Correlation, pairs: Pairs, learn: int = 2) -> bool:
    """Whether both give the same values, and the same gradients of the first `learn` arguments."""
    theirs, ours = _results(first, pairs, learn), _results(second, pairs, learn)
    return theirs is not None and ours is not None and _same(theirs, ours)


def _contradict(first: Correlation, second: Correlation, pairs: Pairs) -> bool:
    """Whether both take these, and give something else."""
    theirs, ours = _results(first, pairs, 2), _results(second, pairs, 2)
    return theirs is not None and ours is not None and not _same(theirs, ours)


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
    one, several = list(probes()), list(probes(2))
    for ours in candidates:
        for call in (Swapped(ours, original=original), Swapped(ours, turned=True, original=original)):
            for turned in (False, True):
                pairs, more = ([pair[::-1] if turned else pair for pair in each] for each in (one, several))
                # A template of several kernels is not everywhere taken; where it is, their order counts.
                if _agree(original, call, pairs) and not _contradict(original, call, more):
                    return call
    return None


def score_probes() -> Pairs:
    """(scores, labels) of a batch, with each label twice at least."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 1, 6, 5, generator=generator) * 3
    return [(scores, (torch.rand(scores.shape, generator=generator) < 0.2).float())]


def same_module(owner: type, ours: type, pairs: Pairs, learn: int) -> bool:
    """Whether the modules that two classes make by themselves give the same, in training and in evaluation, and the
    same gradients of the first `learn` arguments."""
    try:
        their_module, our_module = owner(), ours()
    except Exception:
        return False
    return all(_agree(their_module.train(mode), our_module.train(mode), pairs, learn) for mode in (True, False))
