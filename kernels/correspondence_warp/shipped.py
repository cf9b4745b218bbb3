"""correspondence_warp's shipped calls: its launchers at the shapes of performance.md's table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from siamfast.kernels.correspondence_warp import launch, launch_backward, launch_dense
from siamfast.kernels.correspondence_warp.task import Ends, Sizes, Task, row_blocks, through_unit_rows, unit_rows
from siamfast.kernels.launches import Call
from siamfast.kernels.tf32 import EXACT

from siamfast.ops.correspondence_warp.call import Gradients, Outputs


class _Case(NamedTuple):
    """A warp of one frame."""

    name: str
    batch: int
    channels: int
    side: tuple[int, int]  # of the queries' grid
    values: int
    keys_side: tuple[int, int]
    radius: int = -1
    circle: bool = False
    topk: int = 0

    @property
    def cells(self) -> int:
        return self.side[0] * self.side[1]

    @property
    def keys(self) -> int:
        return self.keys_side[0] * self.keys_side[1]

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key that it sees, per sample."""
        if self.radius < 0:
            return self.cells * self.keys
        axes = []
        for queries, keys in zip(self.side, self.keys_side, strict=True):
            at = (torch.arange(queries) + 0.5) * keys / queries - 0.5
            axes.append((torch.arange(keys) - at[:, None]).abs())
        if not self.circle:
            return math.prod(int((away <= self.radius).sum()) for away in axes)
        squares = axes[0].flatten()[:, None] ** 2 + axes[1].flatten()[None, :] ** 2
        return int((squares < self.radius**2).sum())


_LARGE = 1, 512, (60, 108), 5, (60, 108)
_SMALL = 8, 256, (25, 25), 1
_CASES = (
    _Case("large", *_LARGE),
    _Case("large, radius 12", *_LARGE, radius=12),
    _Case("large, circle 12, top 10", *_LARGE, radius=12, circle=True, topk=10),
    _Case("25x25", *_SMALL, (25, 25)),
    _Case("grids that differ, top 10", *_SMALL, (24, 24), radius=12, circle=True, topk=10),
)
# Precision of products and dtype of rows: for unit features, for features as they are, for float32 without TF32.
_PRODUCTS = (("ieee", torch.float16), ("tf32", torch.float32), (EXACT, torch.float32))


def calls() -> Iterator[Call]:
    """Rows of the table."""
    yield from _features()
    for case in _CASES:
        for precision, dtype in _PRODUCTS:
            yield from (_top if case.topk else _plain)(case, precision, dtype)


def _features() -> Iterator[Call]:
    """512 channels of 60 x 108 cells."""
    shape = 1, 1, 512, 60, 108
    count, cells = math.prod(shape), 60 * 108

    def back() -> None:
        through_unit_rows(torch.zeros(1, 1, cells, 512), None, torch.zeros(shape), torch.ones(1, 1, cells), 1.0, True)

    yield Call(
        "warp rows, large, fp32", lambda: unit_rows(torch.zeros(shape), torch.float16, 512, 1.0, True),
        6 * count, 3 * count,
    )  # fmt: skip
    yield Call("warp slopes of features, large, fp32", back, 12 * count, 6 * count)


def _task(case: _Case, precision: str, dtype: torch.dtype) -> Task:
    """Random rows of length 1, the queries' times a factor: which keys are inserted into lists depends on them."""
    padded, _ = row_blocks(case.channels, dtype.itemsize, precision)
    random = torch.Generator().manual_seed(0)
    query, keys = (
        torch.nn.functional.normalize(torch.randn(case.batch, n, padded, generator=random), dim=2).to(dtype)
        for n in (case.cells, case.keys)
    )
    values = torch.zeros(case.batch, case.values, case.keys)
    return Task(
        query=query / 0.07,
        keys=keys,
        values=values,
        bias=None,
        exempt=torch.zeros(1, dtype=torch.int32),
        inverse=(values, values),
        sizes=Sizes(*case.side, *case.keys_side, frames=1, channels=padded),
        radius=float(case.radius),
        circle=case.circle,
        precision=precision,
    )


def _work(case: _Case, size: int) -> tuple[int, int, int]:
    """Bytes of the features' rows, of values in and out, and FLOP of one product of features."""
    rows = case.batch * (case.cells + case.keys) * case.channels * size
    return rows, 4 * case.batch * case.values * (case.cells + case.keys), 2 * case.batch * case.pairs * case.channels


def _name(case: _Case, precision: str, dtype: torch.dtype) -> str:
    return f"{case.name}, {'exact' if precision == EXACT else 'fp16' if dtype == torch.float16 else 'fp32'}"


def _plain(case: _Case, precision: str, dtype: torch.dtype) -> Iterator[Call]:
    name, (rows, values, flop) = _name(case, precision, dtype), _work(case, dtype.itemsize)
    weighing = 2 * case.batch * case.pairs * case.values
    slopes = case.batch * case.channels * 4  # bytes of the slopes of one row of each sample

    def forward() -> None:
        launch.forward(_task(case, precision, dtype))

    each, out = torch.zeros(case.batch, case.cells), torch.zeros(case.batch, case.values, case.cells)

    def ends() -> None:
        launch_backward.ends_of(
            _task(case, precision, dtype),
            grads=Gradients(out, each, each, each),
            outputs=Outputs(out, each, each, each, each.long()),
        )

    def backward(needs: list[bool]) -> None:
        task = _task(case, precision, dtype)
        units = torch.ones(case.batch) if launch_dense.needs_units(task) else None
        numbers = torch.zeros(case.batch, 4, case.cells)
        launch_backward.backward(task, grad=out, ends=Ends(numbers, units), index=each.long(), needs=needs)

    yield Call(
        f"warp forward, {name}", forward, rows + values, flop + weighing, wide=True,
        rate="bf16" if dtype == torch.float16 else "fp32",
    )  # fmt: skip
    if precision == "ieee":  # the others differ by the units alone
        size = 4 * case.batch * case.cells * (2 * case.values + 10)
        yield Call(f"warp ends, {name}", ends, size, 2 * size // 4)
    if case.radius < 0:  # their products are PyTorch's
        pairs = case.batch * case.pairs
        yield Call(
            f"warp slopes of logits, {name}", lambda: backward([True] * 4), pairs * (4 + dtype.itemsize) + values,
            2 * weighing + 8 * pairs, rate="fp32", tf32=precision != EXACT,
        )  # fmt: skip
        return
    for kind, needs, written, products in (
        ("dquery", [True, False, False, False], case.cells * slopes, 2),
        ("dkeys", [False, True, False, False], case.keys * slopes, 2),
        ("dvalues", [False, False, True, False], 0, 1),
    ):
        yield Call(
            f"warp {kind}, {name}", lambda n=needs: backward(n), rows + written + values, products * flop + weighing,
            rate="fp32" if products == 2 or dtype == torch.float32 else "bf16", wide=True,
        )  # fmt: skip


def _top(case: _Case, precision: str, dtype: torch.dtype) -> Iterator[Call]:
    name, (rows, values, flop) = _name(case, precision, dtype), _work(case, dtype.itemsize)
    chosen = case.batch * case.cells * case.topk

    def backward() -> None:
        """The same distribution of choices as random features give: each key's number is binomial."""
        random = torch.Generator().manual_seed(0)
        places = torch.randint(case.keys, (case.batch, case.topk, case.cells), generator=random)
        each, out = torch.zeros(case.batch, case.cells), torch.zeros(case.batch, case.values, case.cells)
        launch_backward.top_backward(
            _task(case, precision, dtype), grads=Gradients(out, each, each, each), chosen=places, need_values=True
        )

    yield Call(
        f"warp top, {name}", lambda: launch.top_forward(_task(case, precision, dtype), topk=case.topk, post=False),
        rows + values + 8 * chosen, flop, rate="bf16" if dtype == torch.float16 else "fp32", wide=True,
    )  # fmt: skip
    if precision == "ieee":  # what follows is the same for all
        # Of a chosen pair: its logit again, its part of the query's slope, and of the key's.
        written = 4 * case.batch * (case.cells + case.keys) * case.channels
        yield Call(f"warp top backward, {name}", backward, rows + written + values, 6 * chosen * case.channels)
