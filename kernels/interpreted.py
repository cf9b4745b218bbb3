"""Notes the work of programs that Triton's interpreter runs, for count.py. Imported only with TRITON_INTERPRET=1."""

from __future__ import annotations

import builtins
import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import triton.language as tl
from siamfast.kernels.count import SECTOR, STEPS, Work, sample
from siamfast.kernels.launches import KernelType, Launch
from triton.runtime import interpreter

# Slots of a multiply-add (2 FLOP) that an instruction takes. A product and a sum are half of one: the compiler fuses
# them. Special functions run on a quarter of the lanes in two steps, conversions to and from integers at half the rate
# (CUDA C++ programming guide, throughput of arithmetic instructions).
_HALF = ("fadd", "fsub", "fmul")
_SPECIAL = ("exp", "exp2", "log", "log2", "sqrt", "precise_sqrt", "rsqrt", "sin", "cos", "fdiv", "precise_divf")
_CONVERSIONS = ("si_to_fp", "ui_to_fp", "fp_to_si", "fp_to_ui")
_WEIGHTS = dict.fromkeys(_HALF, 1) | dict.fromkeys(_SPECIAL, 16) | dict.fromkeys(_CONVERSIONS, 4) | {"fma": 2}
_MOVES = (
    "load",
    "store",
    "dot",
    "splat",
    "broadcast",
    "expand_dims",
    "reshape",
    "trans",
    "addptr",
    "gather",
    "bitcast",
)
_OTHER = 2  # a comparison, a choice, the larger of two: one slot
# TF32 at float32's accuracy takes three products.
_TIMES = {"tf32x3": 3}


class Counter:
    """Notes the work of programs, one after another; `work` is their sum."""

    def __init__(self, launch: Launch) -> None:
        self.work = Work(launch.name, launch.grid, launch.programs)
        self.steps = 0
        tensors = [t for t in launch.arguments if hasattr(t, "data_ptr") and t.numel() > 0]
        self.tensors = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors
        }  # address -> bytes; views of one storage are one
        self.read: dict[int, int] = dict.fromkeys(self.tensors, 0)
        self.changed: dict[int, int] = dict.fromkeys(self.tensors, 0)
        self.begin()

    def begin(self) -> None:
        """A program starts; it has touched nothing."""
        self.sectors: set[int] = set()
        self.stored: set[int] = set()
        self.round, self.chain, self.multiplies = 0, (0, 0), False

    def next_round(self) -> None:
        """An iteration of a loop ends: its loads have arrived."""
        far, near = self.chain
        if self.multiplies:
            self.work.far_pipelined += far
            self.work.near_pipelined += near
        else:
            self.work.far += far
            self.work.near += near
        self.round, self.chain, self.multiplies = self.round + 1, (0, 0), False

    def end(self) -> None:
        self.next_round()
        for sectors, totals in ((self.sectors, self.read), (self.stored, self.changed)):
            places = np.fromiter(sectors, np.int64, len(sectors)) * SECTOR
            for start, size in self.tensors.items():
                totals[start] += SECTOR * int(((places > start - SECTOR) & (places < start + size)).sum())
        self.work.touched += SECTOR * len(self.sectors)

    def finish(self, programs: int) -> Work:
        """The mean over this number of programs."""
        work = self.work
        for name, value in vars(work).items():
            if isinstance(value, float):
                setattr(work, name, value / programs)
        work.products = {rate: flop / programs for rate, flop in work.products.items()}
        for start, size in self.tensors.items():
            # Data that the launch writes and reads again is in the cache.
            read = 0.0 if self.changed[start] else self.read[start] * work.programs / programs
            work.memory += min(read, size) + min(self.changed[start] * work.programs / programs, size)
        return work

    def depth(self, values: tuple[Any, ...]) -> tuple[int, int]:
        """The longest chain of loads (far, near) that these values wait for, in this round."""
        most = (0, 0)
        for value in values:
            number, chain = getattr(value, "waits", (-1, (0, 0)))
            if number == self.round:
                most = max(most, chain)
        return most

    def load(self, pointers: Any, mask: Any) -> tuple[int, int]:
        """Notes a load and returns (1, 0) if it is far, (0, 1) if near."""
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        places = np.asarray(pointers.data)[np.broadcast_to(mask.data, pointers.data.shape)]
        asked = set(np.unique(places.astype(np.int64) // SECTOR).tolist())
        far = bool(asked - self.sectors) and not asked <= self.stored
        self.sectors |= asked
        self.work.loaded += size * places.size
        self.work.asked += SECTOR * len(asked)
        return (1, 0) if far else (0, 1 if asked else 0)

    def store(self, pointers: Any, mask: Any) -> None:
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        places = np.asarray(pointers.data)[np.broadcast_to(mask.data, pointers.data.shape)]
        asked = set(np.unique(places.astype(np.int64) // SECTOR).tolist())
        self.stored |= asked
        self.work.stored += size * places.size
        self.work.written += SECTOR * len(asked)

    def dot(self, a: Any, b: Any, precision: Any) -> None:
        *batch, m, k = a.data.shape
        flop = 2.0 * np.prod(batch, initial=1) * m * k * b.data.shape[-1]
        rate = "fp32" if a.dtype.scalar == tl.float32 else "bf16"
        times = _TIMES.get(getattr(precision, "name", str(precision)).lower(), 1)
        self.work.products[rate] = self.work.products.get(rate, 0.0) + flop * times
        self.multiplies = True

    def arithmetic(self, name: str, out: Any) -> None:
        kind = getattr(out, "dtype", None)
        operand_is_float = name.startswith("fcmp") or (kind is not None and kind.is_floating())
        if name in _MOVES or not operand_is_float:
            return
        slots = float(_WEIGHTS.get(name, _OTHER) * out.data.size)
        if kind == tl.float64:
            self.work.double += slots
        else:
            self.work.plain += slots


def count_launch(launch: Launch) -> Work:
    """The work of a launch, from a sample of its programs."""
    counter, programs = Counter(launch), 0
    with _reported_to(counter), np.errstate(all="ignore"):
        for place in sample(launch.grid):
            if counter.steps > STEPS:
                break
            counter.begin()
            _run(launch, place)
            counter.end()
            programs += 1
    return counter.finish(programs)


def _run(launch: Launch, place: tuple[int, int, int]) -> None:
    """One program, as the interpreter's own executor runs all of a grid."""
    kernel = launch.kernel
    executor = interpreter.GridExecutor(kernel.rewrite(), kernel.arg_names, launch.grid)
    scope = interpreter._patch_lang(executor.fn)
    try:
        named = inspect.getcallargs(executor.fn, **launch.named)
        implicit = {n: v if n in executor.constexprs else interpreter._implicit_cvt(v) for n, v in named.items()}
        interpreter.interpreter_builder.set_grid_dim(*(*launch.grid, 1, 1)[:3])
        interpreter.interpreter_builder.set_grid_idx(*place)
        executor.fn(**implicit)
    finally:
        if scope is not None:  # Triton 3.4 leaves the language changed
            scope.restore()


@contextlib.contextmanager
def _reported_to(counter: Counter) -> Iterator[None]:
    """Inside, the interpreter's builder, its reductions and the kernels' loops report to `counter`."""
    builder = interpreter.interpreter_builder
    names = [n for n in dir(builder) if n.startswith("create_") and n not in ("create_load", "create_store")]
    for name in names:
        setattr(builder, name, _step(counter, name.removeprefix("create_"), getattr(builder, name)))
    reduce = interpreter.ReduceOps.apply_impl

    def apply(self: Any, values: Any) -> Any:
        for value in values:
            counter.arithmetic("fadd" if self.combine_fn is tl.standard._sum_combine else "max", value.handle)
        return reduce(self, values)

    def rounds(*limits: Any) -> Iterator[int]:
        for number in builtins.range(*limits):
            counter.next_round()
            yield number
        counter.next_round()

    values = [
        v for n, module in sys.modules.items() if n.startswith("siamfast.kernels.") for v in vars(module).values()
    ]
    modules = [sys.modules[name] for name in {v.fn.__module__ for v in values if isinstance(v, KernelType)}]
    interpreter.ReduceOps.apply_impl = apply
    for module in modules:
        vars(module)["range"] = rounds
    try:
        yield
    finally:
        interpreter.ReduceOps.apply_impl = reduce
        for module in modules:
            del vars(module)["range"]
        for name in names:
            delattr(builder, name)


def _step(counter: Counter, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of the builder that also reports to `counter`."""

    def step(*arguments: Any, **options: Any) -> Any:
        out = method(*arguments, **options)
        counter.steps += 1
        far, near = counter.depth((*arguments, *options.values()))
        if name == "masked_load":
            one_far, one_near = counter.load(arguments[0], arguments[1])
            far, near = far + one_far, near + one_near
            counter.chain = max(counter.chain, (far, near))
        elif name == "masked_store":
            counter.store(arguments[0], arguments[2])
        elif name == "dot":
            counter.dot(arguments[0], arguments[1], arguments[3])
        else:
            counter.arithmetic(name, out)
        if far or near:
            for value in out if isinstance(out, tuple) else (out,):
                if hasattr(value, "data"):
                    value.waits = counter.round, (far, near)
        return out

    return step
