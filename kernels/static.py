"""Resources of kernels compiled for chips that need not be here, and the least time that their work takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from siamfast.kernels.cards import KIB, Card, Limits
from siamfast.kernels.disassembly import resources_of, sass_of
from siamfast.kernels.launches import Call, Launch, compile_launch
from siamfast.kernels.races import races
from siamfast.kernels.repeats import repeats
from siamfast.kernels.sass import Instruction, instructions
from siamfast.kernels.sass_races import problems

# Registers of a multiprocessor, and the shared memory that the driver reserves per block: the same on all chips.
_REGISTERS, _RESERVED = 65536, KIB
_NEWEST = r"HGMMA|QGMMA|UTC\w*MMA"  # wgmma, tcgen05
_DOUBLE = ("DADD", "DMUL", "DFMA", "DSETP")


@dataclass(frozen=True)
class Usage:
    """Resources that a cubin uses; stack and shared in bytes, the rest in counts."""

    registers: int
    stack: int
    spills: int
    shared: int
    tensor_core: int
    wide_loads: int
    warps: int  # of a block
    races: tuple[str, ...] = ()  # as races.py describes them, in Triton's code
    problems: tuple[str, ...] = ()  # races and more in SASS, as sass_races.py describes them
    newest_products: bool = True  # whether products use the instructions that reach the chip's full rate
    async_loads: int = 0  # loads that bypass registers
    load_bytes: float = 0.0  # per lane, the mean over load instructions
    repeats: int = 1  # how many warps do the same part of a product, at most
    double: int = 0  # instructions of float64 arithmetic

    @property
    def spilled(self) -> bool:
        """Whether some numbers of a thread are in memory, not in registers."""
        return self.stack > 0 or self.spills > 0

    def blocks(self, limits: Limits) -> int:
        """Blocks that a multiprocessor runs at once."""
        registers = -(-self.registers // 8) * 8 * 32 * self.warps
        shared = self.shared + _RESERVED
        return min(limits.blocks, limits.warps // self.warps, _REGISTERS // registers, limits.shared_all // shared)

    def occupancy(self, limits: Limits) -> float:
        """Share of a multiprocessor's warps that can be resident at once."""
        return self.blocks(limits) * self.warps / limits.warps


def floor(call: Call, card: Card) -> float:
    """Seconds that this work takes on this card at least, whatever the kernel."""
    return max(call.bytes / card.bandwidth, call.flop / card.rates[call.rate])


def usages_for(launches: Sequence[Launch], chip: int) -> list[Usage]:
    """Compile launches for sm_`chip` and read their cubins."""
    return usages_of([compile_launch(launch, chip) for launch in launches])


def usages_of(kernels: Sequence[Any]) -> list[Usage]:
    """Resources of kernels compiled for one chip."""
    chip = kernels[0].metadata.target.arch if kernels else 0
    texts = sass_of([kernel.asm["cubin"] for kernel in kernels], chip)
    return [_usage(kernel, instructions(sass)) for kernel, sass in zip(kernels, texts, strict=True)]


def _usage(compiled: Any, code: Sequence[Instruction]) -> Usage:
    chip, warps = compiled.metadata.target.arch, compiled.metadata.num_warps
    used = resources_of(compiled.asm["cubin"])
    names = [one.words[0] for one in code]
    newest = sum(re.fullmatch(_NEWEST, name) is not None for name in names)
    widths = [one.width for one, name in zip(code, names, strict=True) if name in ("LDG", "LDGSTS")]
    return Usage(
        used["REG"],
        used["STACK"],
        used["LOCAL"],
        compiled.metadata.shared,
        newest + names.count("HMMA"),
        widths.count(16),
        warps,
        tuple(races(compiled.asm["ttgir"])),
        tuple(problems(code, 32 * warps)),
        newest > 0 or chip < 90 or chip >= 120,
        names.count("LDGSTS"),
        sum(widths) / len(widths) if widths else 0.0,
        repeats(compiled.asm["ttgir"]),
        sum(name in _DOUBLE for name in names),
    )
