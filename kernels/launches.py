"""The launches that a call would make on a GPU that need not be here: kernels, arguments, grids and constants."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from siamfast.kernels import chips, tf32
from siamfast.kernels.products import no_product
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

# JITFunction, or InterpretedFunction where TRITON_INTERPRET is 1.
KernelType = type(tf32.product)

DTYPES = {"u8": torch.uint8, "fp32": torch.float32, "bf16": torch.bfloat16}


class StandIn:
    """A driver that only names the chip, which is all that Triton asks when it specializes and compiles."""

    def __init__(self, chip: int) -> None:
        self.chip = chip

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.chip, 32)

    def get_current_device(self) -> int:
        return self.chip  # Triton caches compiled kernels by the device's number

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


@dataclass(frozen=True)
class Call:
    """A row of the table: one call of a launcher, and the least work that its definition requires."""

    name: str
    run: Callable[[], Any]  # makes its own tensors
    bytes: int  # each input read once, each output written once
    flop: int  # of the definition
    rate: str = "plain"  # whose FLOP a second: plain, or the tensor cores' at fp32 (as TF32) or bf16
    wide: bool = False  # whether the addresses of the streamed operand allow 128-bit loads
    tf32: bool = True  # whether float32 products may be TF32's

    @property
    def tensor_cores(self) -> bool:
        return self.rate != "plain"


def zeros(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    """An argument of a call, whose values decide nothing; dtype: one of DTYPES."""
    return torch.zeros(shape, dtype=DTYPES[dtype])


@dataclass(frozen=True)
class Launch:
    """One kernel with the arguments that its launcher passes; CPU tensors stand in for a GPU's."""

    kernel: Any
    arguments: tuple[Any, ...]
    grid: tuple[int, ...]
    options: dict[str, Any]  # constants, num_warps and num_stages

    @property
    def name(self) -> str:
        name: str = self.kernel.fn.__name__
        return name

    @property
    def programs(self) -> int:
        count = 1
        for side in self.grid:
            count *= side
        return count

    @property
    def named(self) -> dict[str, Any]:
        """All arguments by name, without options such as num_warps."""
        given = dict(zip(self.kernel.arg_names, self.arguments, strict=False))
        return given | {name: value for name, value in self.options.items() if name in self.kernel.arg_names}


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside, `owner.name` is `value`."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def launches_of(call: Call, chip: int) -> list[Launch]:
    """The launches of `call` on sm_`chip`, in order; nothing is run."""
    launches: list[Launch] = []
    empty = torch.empty

    def record(kernel: Any, grid: Any, *arguments: Any, **options: Any) -> None:
        if "UPCAST" in options:
            options["UPCAST"] = False  # it is for the interpreter, which the tensors' device stands for
        launches.append(Launch(kernel, arguments, tuple(grid), options))

    # Later kernels of a call read what earlier ones would have written, also as indices: 0 is a valid one.
    with (
        replaced(KernelType, "__getitem__", lambda kernel, grid: functools.partial(record, kernel, grid)),
        replaced(chips, "chip_of", lambda device: chip),
        replaced(torch, "bmm", no_product),
        replaced(torch, "empty", lambda *shape, **options: empty(*shape, **options).zero_()),
        replaced(torch.backends.cudnn.conv, "fp32_precision", "tf32" if call.tf32 else "ieee"),
    ):
        call.run()
    return launches


def compile_launch(launch: Launch, chip: int) -> Any:
    """The compiled kernel, specialized as a launch would specialize it."""
    before = dict(vars(driver))  # its `reset_active` raises where there is no GPU
    driver.set_active(StandIn(chip))
    try:
        return launch.kernel.run(*launch.arguments, grid=launch.grid, warmup=True, **launch.options)
    finally:
        vars(driver).update(before)
