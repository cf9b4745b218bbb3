"""What a call would launch on a GPU that need not be here: kernels, arguments and grids as the launchers make them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from siamfast.kernels import chips, tf32
from siamfast.kernels.cards import LIMITS
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

# JITFunction, or InterpretedFunction where TRITON_INTERPRET is 1.
KernelType = type(tf32.product)

DTYPES = {"u8": torch.uint8, "fp32": torch.float32, "bf16": torch.bfloat16}


class StandIn:
    """What Triton asks a driver when it specialises and compiles: the chip. Nothing is run."""

    def __init__(self, chip: int) -> None:
        self.chip = chip

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.chip, 32)

    def get_current_device(self) -> int:
        return self.chip  # Triton keeps what it compiled by the device's number

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


@dataclass(frozen=True)
class Call:
    """A row of the table: one call of a launcher, and the least that its definition has to do."""

    name: str
    run: Callable[[], Any]  # makes its own tensors
    bytes: int  # each input read once, each output written once
    flop: int  # of the definition
    rate: str = "plain"  # whose FLOP a second: plain, or the tensor cores' at fp32 (as TF32) or bf16
    wide: bool = False  # the places of the operand that is streamed allow 128-bit loads
    tf32: bool = True  # whether float32 products may be TF32's

    @property
    def tensor_cores(self) -> bool:
        return self.rate != "plain"


def zeros(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    """An argument of a call, whose values decide nothing; dtype: one of DTYPES."""
    return torch.zeros(shape, dtype=DTYPES[dtype])


@dataclass(frozen=True)
class Launch:
    """One kernel with what its launcher gives it. Arguments are CPU tensors in place of a GPU's."""

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
        """Every argument by its name, options such as num_warps left out."""
        given = dict(zip(self.kernel.arg_names, self.arguments, strict=False))
        return given | {name: value for name, value in self.options.items() if name in self.kernel.arg_names}


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` meanwhile."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def launches_of(call: Call, chip: int) -> list[Launch]:
    """What `call` launches on sm_`chip`, in order; nothing is run."""
    found: list[Launch] = []
    empty = torch.empty

    def run(kernel: Any, *arguments: Any, grid: Any, warmup: bool = False, **options: Any) -> None:
        if "UPCAST" in options:
            options["UPCAST"] = False  # it is for the interpreter, which the tensors' device stands for
        found.append(Launch(kernel, arguments, tuple(grid), options))

    # Later kernels of a call read what earlier ones would have written, as places too: 0 is a place.
    with (
        replaced(KernelType, "run", run),
        replaced(chips, "chip_of", lambda device: chip),
        replaced(chips, "shared_limit", lambda device: LIMITS[chip].shared_block),
        replaced(torch, "empty", lambda *shape, **options: empty(*shape, **options).zero_()),
        replaced(torch.backends.cudnn.conv, "fp32_precision", "tf32" if call.tf32 else "ieee"),
    ):
        call.run()
    return found


def compile_launch(launch: Launch, chip: int) -> Any:
    """The compiled kernel, with the specialisation that a launch would have."""
    before = dict(vars(driver))  # its `reset_active` raises where there is no GPU
    driver.set_active(StandIn(chip))
    try:
        return launch.kernel.run(*launch.arguments, grid=launch.grid, warmup=True, **launch.options)
    finally:
        vars(driver).update(before)
