"""Finds in SASS of sm_90 what an asynchronous product must not meet. races.py looks for the first of it in Triton's
code; here it is what the GPU runs.

    HGMMA R24, R32, gdesc[UR8], R24, gsb0   # reads shared memory at the address in UR10, and R32 to R35
    WARPGROUP.DEPBAR.LE gsb0, 0x1           # the last product may go on
    LDGSTS [R79], ...                       # a copy into what it reads
    IMAD.MOV R32, ...                       # or another value in a register that it reads

Addresses are those of sass.py; one that could not be followed is told. A product reads the whole buffer in which its
descriptor points: what was filled, without a gap, by the copies up to one LDGDEPBAR or by the stores up to one barrier.
What is under a predicate that is not known is taken to happen, but no wait or barrier. A wait counts for the other
warps from the next barrier on. Calls, BSYNC's jumps and writes by other instructions (ATOMS, TMA) are not known here;
Triton's code for our kernels has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from siamfast.kernels.sass import Instruction, State, Walk, never_written
from siamfast.kernels.sass_arithmetic import Vector

Span = tuple[int, int]  # from, to, in bytes of shared memory
_KEPT = 64  # buffers that are remembered


@dataclass(frozen=True)
class Product:
    """A group of HGMMAs: the address of the first, the buffers and registers that they read, their sums."""

    address: int
    buffers: frozenset[Span] = frozenset()
    factors: frozenset[str] = frozenset()
    sums: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Memory:
    """What is known of shared memory and of products, oldest first."""

    buffers: tuple[Span, ...] = ()  # newest first
    copied: tuple[Span, ...] = ()  # since the last LDGDEPBAR
    stored: tuple[Span, ...] = ()  # since the last barrier
    issued: tuple[Product, ...] = ()  # one without its gsb0 yet, or none
    pending: tuple[Product, ...] = ()
    waited: tuple[Product, ...] = ()  # by this warp, not yet by all


class Races(Walk[Memory]):
    """`found`: one line for each pair of an instruction and a product that it meets; `unknown`: one for each address
    that was not followed, where it matters; `products`: how many HGMMAs were seen."""

    def __init__(self, code: Sequence[Instruction], threads: int) -> None:
        self.found: dict[tuple[int, int], str] = {}
        self.unknown: dict[int, str] = {}
        self.products = 0
        super().__init__(code, threads, Memory())

    def see(self, one: Instruction, state: State[Memory]) -> Memory:
        memory, name = state.seen, one.words[0]
        self._registers(one, memory)
        if name == "HGMMA":
            return self._issued(one, state)
        if name in ("LDGSTS", "STS", "STSM"):  # LDGSTS writes zeros where its predicate is false
            return self._filled(one, state)
        if name == "LDGDEPBAR":
            return replace(memory, copied=(), buffers=_newest(memory.copied, memory.buffers))
        if name == "BAR" and one.words[1] == "SYNC" and one.always:
            return replace(memory, stored=(), waited=(), buffers=_newest(memory.stored, memory.buffers))
        if name == "WARPGROUP" and one.words[1] == "DEPBAR" and one.always:
            done = max(0, len(memory.pending) - int(one.operands[-1], 16))
            waited = memory.waited + memory.pending[:done]
            return replace(memory, waited=waited, pending=memory.pending[done:])
        return memory

    def _registers(self, one: Instruction, memory: Memory) -> None:
        for product in memory.pending + memory.issued:
            results, reads = set(one.results), one.reads
            if one.words[0] == "HGMMA" and one.results[0] in product.sums:  # goes on with the same sums
                results, reads = set(), reads - product.sums
                if one.operands[1] in product.sums:
                    reads |= {one.operands[1]}
            changed = product.factors & results
            early = product.sums & (results | reads)
            for names, what in ((changed, "writes {}, which {} may still read"), (early, "has {} before {} is done")):
                if names:
                    name = min(names, key=lambda register: (len(register), register))
                    told = what.format(name, f"the HGMMA at {product.address:#x}")
                    self.found[one.address, product.address] = f"{one.name} at {one.address:#x} {told}"

    def _filled(self, one: Instruction, state: State[Memory]) -> Memory:
        memory = state.seen
        address = self.value(next(operand for operand in one.operands if operand.startswith("[")), state)
        reading = memory.pending + memory.issued + memory.waited
        if address is None:
            if reading:
                self.unknown[one.address] = f"{one.name} at {one.address:#x}: its address was not followed"
            return memory
        spans = _spans(address, one)
        for product in reading:
            for low, high in product.buffers:
                if any(start < high and low < end for start, end in spans):
                    self.found[one.address, product.address] = (
                        f"{one.name} at {one.address:#x} writes shared memory that the HGMMA at "
                        f"{product.address:#x} may still read, {low:#x} to {high:#x}"
                    )
        if one.words[0] == "LDGSTS":
            return replace(memory, copied=_merged(memory.copied + spans))
        return replace(memory, stored=_merged(memory.stored + spans))

    def _issued(self, one: Instruction, state: State[Memory]) -> Memory:
        self.products += 1
        memory, operands = state.seen, one.operands
        place = next(n for n, operand in enumerate(operands) if operand.startswith("gdesc"))
        number = int(operands[place].removeprefix("gdesc[UR").partition("]")[0])
        (product,) = memory.issued or (Product(one.address),)
        buffers, factors = set(product.buffers), set(product.factors)
        if place == 2:  # the first factor is in registers, four of each lane
            first = int(operands[1].removeprefix("R").partition(".")[0])
            factors |= {f"R{first + more}" for more in range(4)}
        for register in (f"UR{number}", f"UR{number + 2}")[place - 1 :]:
            descriptor = self.value(register, state)
            starts = set() if descriptor is None else {int(start) for start in (descriptor & 0x3FFF) << 4}
            spans = memory.copied + memory.stored + memory.buffers
            read = [next((span for span in spans if span[0] <= start < span[1]), None) for start in starts]
            buffers |= {span for span in read if span is not None}
            if not read or None in read:
                self.unknown[one.address] = (
                    f"{one.name} at {one.address:#x}: what it reads by {register} was not followed"
                )
        sums = product.sums.union(one.results)
        product = Product(product.address, frozenset(buffers), frozenset(factors), sums)
        if "gsb0" in operands:
            return replace(memory, issued=(), pending=(*memory.pending, product))
        return replace(memory, issued=(product,))

    def joined(self, first: Memory, second: Memory) -> Memory:
        """What may be pending on either way, and the buffers of both."""

        def both(one: tuple[Product, ...], other: tuple[Product, ...]) -> tuple[Product, ...]:
            """The newest of each way are one; how many there are is what waits count."""
            longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
            older = len(longer) - len(shorter)
            return longer[:older] + tuple(_either(*pair) for pair in zip(longer[older:], shorter, strict=True))

        return Memory(
            _newest(first.buffers, second.buffers),
            _merged(first.copied + second.copied),
            _merged(first.stored + second.stored),
            both(first.issued, second.issued),
            both(first.pending, second.pending),
            tuple(dict.fromkeys(first.waited + second.waited)),
        )


def problems(code: Sequence[Instruction], threads: int) -> list[str]:
    """One line for each race, uniform register that nothing writes, and address that was not followed."""
    lines = never_written(code)
    if any(one.words[0] == "HGMMA" for one in code):
        races = Races(code, threads)
        lines += [*races.found.values(), *races.unknown.values()]
    return lines


def _either(one: Product, other: Product) -> Product:
    """What one of two ways has issued."""
    sets = one.buffers | other.buffers, one.factors | other.factors, one.sums | other.sums
    return Product(one.address, *sets)


def _newest(spans: tuple[Span, ...], others: tuple[Span, ...]) -> tuple[Span, ...]:
    """These before the others, each once."""
    return tuple(dict.fromkeys(spans + others))[:_KEPT]


def _spans(address: Vector, one: Instruction) -> tuple[Span, ...]:
    """What all threads write."""
    width = one.width
    if one.words[0] == "STSM":  # each lane gives the address of a row of 16 bytes
        lanes = 8 * (int(one.words[-1]) if one.words[-1].isdigit() else 1)
        address, width = address[np.arange(len(address)) % 32 < lanes], 16
    return _merged(tuple((int(start), int(start) + width) for start in np.unique(address)))


def _merged(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """With those joined that touch."""
    joined: list[Span] = []
    for low, high in sorted(spans):
        if joined and low <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(high, joined[-1][1])
        else:
            joined.append((low, high))
    return tuple(joined)
