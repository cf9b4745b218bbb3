"""What the compiler makes of a kernel, for chips that need not be here, and the least time that its work takes there.

`siamfast bench --static` prints a line for every configuration of shipped.py on sm_80, sm_90 and sm_100.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import triton
from siamfast.kernels.races import races
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@dataclass(frozen=True)
class Chip:
    """What one kind of GPU has; a data-centre card of that kind in brackets where the number is the card's."""

    name: str
    shared_block: int  # bytes of dynamic shared memory that a block may ask for
    shared_all: int  # bytes of shared memory of a multiprocessor
    bandwidth: float  # bytes a second
    rates: dict[str, float]  # FLOP a second: plain float32, and the dense tensor cores'


# Limits: CUDA C++ programming guide, compute capabilities. Speeds: sm_90 as PyTorch's own copies and products had them
# on an H200, the others from the data sheets of A100 80GB SXM and B200. None of our kernels has been timed on any.
CHIPS = {
    80: Chip("A100", 163 << 10, 164 << 10, 2.0e12, {"plain": 19.5e12, "fp32": 156e12, "bf16": 312e12}),
    90: Chip("H200", 227 << 10, 228 << 10, 4.3e12, {"plain": 60e12, "fp32": 400e12, "bf16": 780e12}),
    100: Chip("B200", 227 << 10, 228 << 10, 8.0e12, {"plain": 75e12, "fp32": 1100e12, "bf16": 2250e12}),
}
# Registers of a thread, and bytes on the stack that a block more may cost it.
MOST_REGISTERS, MOST_BARGAIN = 255, 32
# The same on all three: registers and warps of a multiprocessor, and what the driver keeps of a block's shared memory.
_REGISTERS, _WARPS, _BLOCKS, _RESERVED = 65536, 64, 32, 1024


@dataclass(frozen=True)
class Build:
    """One kernel with the constants that a launcher gives it for one shape."""

    name: str
    kernel: Any
    pointers: dict[str, str]  # argument -> element type
    constants: dict[str, Any]
    options: dict[str, Any]
    bytes: int  # each input read once, each output written once, at this shape
    flop: int  # of the definition
    rate: str = "plain"  # whose FLOP a second: plain, or the tensor cores' at fp32 (as TF32) or bf16
    wide: bool = False  # the places of the operand that is streamed allow 128-bit loads
    floats: tuple[str, ...] = field(default=("alpha", "beta"))

    @property
    def tensor_cores(self) -> bool:
        return self.rate != "plain"


@dataclass(frozen=True)
class Usage:
    """What the cubin uses; bytes for stack and shared, counts for the rest."""

    registers: int
    stack: int
    spills: int
    shared: int
    tensor_core: int
    wide_loads: int
    warps: int  # of a block
    races: tuple[str, ...] = ()  # as races.py describes them

    @property
    def bargain(self) -> bool:
        """Whether ptxas keeps a few numbers on the stack for one more block on a multiprocessor, with registers left.

        Given all registers (`maxnreg`) it keeps none there, and half as many warps run.
        """
        return 0 < self.stack <= MOST_BARGAIN and self.spills == 0 and self.registers < MOST_REGISTERS

    @property
    def spilled(self) -> bool:
        """Whether the kernel wants more registers than there are."""
        return (self.stack > 0 or self.spills > 0) and not self.bargain

    def occupancy(self, chip: int) -> float:
        """Part of a multiprocessor's warps that can be there at once."""
        registers = -(-self.registers // 8) * 8 * 32 * self.warps
        shared = self.shared + _RESERVED
        blocks = min(_BLOCKS, _WARPS // self.warps, _REGISTERS // registers, CHIPS[chip].shared_all // shared)
        return blocks * self.warps / _WARPS


def floor(build: Build, chip: int) -> float:
    """Seconds below which no kernel does this work on a card of this kind."""
    card = CHIPS[chip]
    return max(build.bytes / card.bandwidth, build.flop / card.rates[build.rate])


def compile_for(build: Build, chip: int) -> Usage:
    """Compile `build` for sm_`chip` and read its cubin. Pointers are aligned as torch's allocator aligns them."""
    names = build.kernel.arg_names
    signature = {
        n: "constexpr"
        if n in build.constants
        else "*" + build.pointers[n]
        if n in build.pointers
        else "fp32"
        if n in build.floats
        else "i32"
        for n in names
    }
    steps = [n for n in ("x_n", "dx_n", "z_n") if n in names]  # of images: 16 divides them at the table's shapes
    aligned = {(names.index(n),): [["tt.divisibility", 16]] for n in (*build.pointers, *steps)}
    source = ASTSource(build.kernel, signature, constexprs=build.constants, attrs=aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", chip, 32), options=build.options)
    return usage_of(compiled, code=True)


def usage_of(compiled: Any, *, code: bool) -> Usage:
    """What a compiled kernel's cubin uses; its instructions are counted with `code`, which takes most of the time."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        used = {n: int(v) for n, v in re.findall(r"(REG|STACK|LOCAL):(\d+)", _cuobjdump("-res-usage", file.name))}
        lines = _cuobjdump("-sass", file.name) if code else ""
    return Usage(
        used["REG"],
        used["STACK"],
        used["LOCAL"],
        compiled.metadata.shared,
        len(re.findall(r"\b(?:HGMMA|HMMA|QGMMA|UTC\w*MMA)\b", lines)),
        len(re.findall(r"\b(?:LDG|LDGSTS)\.\S*\.128", lines)),
        compiled.metadata.num_warps,
        tuple(races(compiled.asm["ttgir"])),
    )


def _cuobjdump(*arguments: str) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


HEADER = (
    f"{'kernel':52} {'chip':>6} {'regs':>5} {'stack':>6} {'spills':>6} {'shared':>7} {'warps':>6} {'occup.':>6} "
    f"{'mma':>5} {'128-bit':>7} {'floor us':>8}"
)


def row(build: Build, chip: int, usage: Usage) -> dict[str, Any]:
    """The line as an object; the floor in microseconds on CHIPS[chip]."""
    return {
        "kernel": build.name,
        "chip": f"sm_{chip}",
        **asdict(usage),
        "occupancy": round(usage.occupancy(chip), 3),
        "bytes": build.bytes,
        "flop": build.flop,
        "floor_us": round(floor(build, chip) * 1e6, 3),
        "card": CHIPS[chip].name,
    }


def line(build: Build, chip: int, usage: Usage) -> str:
    """One row under HEADER."""
    return (
        f"{build.name:52} sm_{chip:<3} {usage.registers:5} {usage.stack:6} {usage.spills:6} {usage.shared:7} "
        f"{usage.warps:6} {usage.occupancy(chip):6.0%} {usage.tensor_core:5} {usage.wide_loads:7} "
        f"{floor(build, chip) * 1e6:8.2f}"
    )
