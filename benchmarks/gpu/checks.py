"""A call of our kernels with a known float64 truth: how it is run, compared and recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton.runtime.interpreter
from triton.runtime.jit import JITFunction

from benchmarks.gpu.machine import tf32_products
from benchmarks.gpu.schedule import Row

Tensors = dict[str, torch.Tensor]


class Check(NamedTuple):
    """run: device -> our kernels' results by name, made anew. truth: device -> the same in float64, made once for
    several dtypes. allowed: part of each result's largest value. judge: (results, truth) -> columns of another rule."""

    op: str
    case: str
    dtype: torch.dtype
    run: Callable[[str], Tensors]
    truth: Callable[[str], Tensors]
    allowed: float
    tf32: bool = True
    judge: Callable[[Tensors, Tensors], Row] | None = None

    @property
    def name(self) -> str:
        exact = "" if self.tf32 else ", exact"
        return f"{self.op}, {self.case}, {str(self.dtype).removeprefix('torch.')}{exact}"


def numbers(*size: int, generator: torch.Generator, whole: bool, scale: float = 1.0) -> torch.Tensor:
    """Normal float32 numbers; without `whole` such as float16 and bfloat16 hold too, so that one truth serves both.

    Float32 keeps its whole mantissas: TF32's products of rounded factors would be exact.
    """
    values = torch.randn(size, generator=generator) * scale
    return values if whole else values.bfloat16().half().float()


@contextmanager
def poisoned() -> Iterator[None]:
    """New memory is filled with NaN, so that values that a kernel does not write show."""

    def filled(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def made(*arguments: Any, **options: Any) -> torch.Tensor:
            tensor = make(*arguments, **options)
            return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

        return made

    with ExitStack() as patches:
        for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
            patches.enter_context(mock.patch.object(owner, name, filled(getattr(owner, name))))
        yield


@contextmanager
def launched() -> Iterator[dict[str, int]]:
    """Names of the kernels that are launched inside, and how often."""
    counts: dict[str, int] = {}
    with ExitStack() as patches:
        for kind in (JITFunction, triton.runtime.interpreter.InterpretedFunction):

            def run(self: Any, *arguments: Any, _run: Any = kind.run, **options: Any) -> Any:
                counts[self.fn.__name__] = counts.get(self.fn.__name__, 0) + 1
                return _run(self, *arguments, **options)

            patches.enter_context(mock.patch.object(kind, "run", run))
        yield counts


def difference(result: torch.Tensor, truth: torch.Tensor) -> float:
    """The largest difference relative to the truth's largest value; NaN if a result has one."""
    truth = truth.detach().double()
    largest = (result.detach().to(truth.device).double() - truth).abs().max()
    return float(largest / truth.abs().max().clamp_min(1e-300))


def compared(check: Check, device: str, truth_on: str, *, again: bool = True) -> Row:
    """The row: each result's difference, which kernels ran, and, if it is run again, whether the bits were the same."""
    with tf32_products(check.tf32), poisoned():
        with launched() as kernels:
            results = check.run(device)
        others = check.run(device) if again else None
    truth = check.truth(truth_on)
    row: Row = {"op": check.op, "case": check.case, "dtype": str(check.dtype), "exact": not check.tf32}
    row |= {name: difference(results[name], true) for name, true in truth.items()}
    same = others is None or all(torch.equal(results[name], others[name]) for name in results)
    if others is not None:
        row["same_bits"] = same
    row["kernels"] = kernels
    good = all(row[name] <= check.allowed for name in truth)
    if check.judge is not None:
        columns = check.judge(results, truth)
        good = columns.pop("good", good)
        row |= columns
    return row | {"allowed": check.allowed, "ok": bool(good and same)}
