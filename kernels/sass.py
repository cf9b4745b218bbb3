"""Reads the SASS of a kernel (disassembly.py), and follows it as far as its addresses of shared memory: what each
thread computes from its number, constants and the counters of loops.

Arguments and loaded values are not known, nor what follows from them; both ways of a branch are followed and joined. A
loop is gone through some ROUNDS. Values are vectors over the threads of a block, unsigned 32-bit numbers in int64;
None: not known. Predicates are 0 or 1.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from siamfast.kernels.sass_arithmetic import COMPARED, MASK, Vector, computed, signed

Seen = TypeVar("Seen")

# Of each loop: one more than the buffers of the deepest pipeline; of one that holds another.
ROUNDS, OUTER_ROUNDS = 5, 2
_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*(?:[&?]\w[^;]*)?;")
_REGISTER, _PREDICATE = re.compile(r"(U?R)(\d+|Z)(?:\.reuse|\.64)?$"), re.compile(r"!?U?P(?:\d|T)$")
_NAMED = re.compile(r"\bU?R\d+")
_SIZES = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}


@dataclass(frozen=True)
class Instruction:
    """One line: its address, the predicate that it is under ("": none), the operation with its modifiers."""

    address: int
    under: str
    name: str
    operands: tuple[str, ...]

    @cached_property
    def words(self) -> list[str]:
        """The operation and its modifiers."""
        return self.name.split(".")

    @property
    def width(self) -> int:
        """Bytes that a load or store moves for each lane."""
        return next((_SIZES[word] for word in self.words[1:] if word in _SIZES), 4)

    @cached_property
    def target(self) -> int | None:
        """Where a branch goes."""
        goes = self.words[0] == "BRA" and self.operands[-1].startswith("0x")
        return int(self.operands[-1], 16) if goes else None

    @cached_property
    def _split(self) -> tuple[list[str], list[str]]:
        """The names of what it writes, "_" for what is dropped, and its other operands."""
        if self.words[0].endswith("PLOP3"):
            return ["_" if "T" in operand else operand for operand in self.operands[:2]], list(self.operands[2:])
        found: list[str] = []
        for place, operand in enumerate(self.operands):
            register = _REGISTER.match(operand)
            if _PREDICATE.match(operand):
                found.append("_" if "T" in operand else operand)
                continue
            if register is None or self.words[0].endswith("SETP"):
                return found, list(self.operands[place:])
            dropped = register[2] == "Z"
            found += ["_" if dropped else f"{register[1]}{int(register[2]) + more}" for more in range(self._count)]
            rest = list(self.operands[place + 1 :])
            while self.words[0].removeprefix("U") in ("IADD3", "IMAD", "LEA") and rest and _PREDICATE.match(rest[0]):
                found.append(rest.pop(0))  # a carry
            return found, rest
        return found, []

    @property
    def results(self) -> list[str]:
        """The registers and predicates that it writes, in order."""
        return [f"P{number}" for number in range(7)] if self.words[0] == "R2P" else self._split[0]

    @property
    def given(self) -> list[str]:
        """Its operands without the results."""
        return self._split[1]

    @cached_property
    def reads(self) -> frozenset[str]:
        """The registers that it names and does not only write; of a pair or of more the first."""
        return frozenset(_NAMED.findall(" ".join(self._split[1])))

    @cached_property
    def always(self) -> bool:
        """Whether it happens in any case: under no predicate, and no branch for some threads or by another operand."""
        return self.under in ("", "PT", "UPT") and (self.words[0] != "BRA" or len(self.operands) == 1)

    @property
    def _count(self) -> int:
        """How many registers it writes from the named one on."""
        words = self.words
        if words[0] == "HGMMA":  # sums of float16 are two in a register
            return int(words[1].split("x")[1]) // (4 if words[2:3] == ["F16"] else 2)
        if words[0] == "HMMA" or "128" in words or words[-1] == "4":
            return 4
        two = {"64", "WIDE", "2"} & set(words[1:]) or words[0] in ("CS2R", "DADD", "DMUL", "DFMA")
        two = two or (words[0].endswith("MNMX") and words[1:2] in (["S64"], ["U64"]))
        return 2 if two or words[1:2] == ["F64"] else 1


def instructions(sass: str) -> list[Instruction]:
    """The lines of a kernel, without what some versions print behind: "&wr=0x0 ?trans1", for the scheduler."""
    found = []
    for match in _LINE.finditer(sass):
        address, under, name, rest = match.groups()
        found.append(Instruction(int(address, 16), under or "", name, tuple(rest.split(", ")) if rest else ()))
    return found


def never_written(code: Sequence[Instruction]) -> list[str]:
    """One line for each uniform register that is read, though nothing before it in the code writes it. Of a pair it is
    the first, by which the pair is named.

    ptxas 12.8 lost the value that such sums begin with: the descriptors of products then point anywhere. Where the
    register was used for something else before, sass_races.py sees only that no buffer is where the product reads.
    Functions stand behind the kernel: what one writes is written from the first call of it on.
    """
    written: set[str] = {"URZ"}
    lines = []
    for one in code:
        for name in sorted(one.reads - written):
            if name.startswith("U") and not (one.words[0] == "HGMMA" and f"gdesc[{name}]" in one.operands):
                lines.append(f"{one.name} at {one.address:#x} reads {name}, which nothing has written")
                written.add(name)
        written.update(one.results)
        if one.words[0] == "CALL" and one.operands[-1].startswith("0x"):
            called = itertools.dropwhile(lambda other, at=int(one.operands[-1], 16): other.address < at, code)
            for other in itertools.takewhile(lambda other: other.words[0] != "RET", called):
                written.update(other.results)
    return lines


@dataclass
class State(Generic[Seen]):
    """What is known before an instruction: registers and predicates by their names, and what a subclass has seen."""

    values: dict[str, Vector | None]
    seen: Seen


class Walk(Generic[Seen]):
    """Goes through a kernel; a subclass sees each instruction that is reached, with the state before it."""

    def __init__(self, code: Sequence[Instruction], threads: int, seen: Seen) -> None:
        self.code, self.threads = code, threads
        self.place = {one.address: place for place, one in enumerate(code)}
        self.loops: dict[int, list[int]] = {}  # the first instruction of loops -> their last ones, outermost first
        for place, one in enumerate(code):
            if one.target in self.place and one.target < one.address:
                self.loops.setdefault(self.place[one.target], []).insert(0, place)
        self.arriving: dict[int, State[Seen]] = {}  # by branches, before they are joined
        self.state: State[Seen] | None = State({}, seen)
        self._go(0, len(code) - 1, frozenset())

    def see(self, one: Instruction, state: State[Seen]) -> Seen:
        """What has been seen after this instruction; for subclasses."""
        return state.seen

    def joined(self, first: Seen, second: Seen) -> Seen:
        """What is left of both where two ways meet; for subclasses."""
        return first

    def _go(self, first: int, last: int, inside: frozenset[tuple[int, int]]) -> None:
        place = first
        while place <= last:
            ends = [end for end in self.loops.get(place, []) if (place, end) not in inside and end <= last]
            if ends:
                holds_another = any(place < head <= ends[0] for head in self.loops) or len(ends) > 1
                for _ in range(OUTER_ROUNDS if holds_another else ROUNDS):
                    self._go(place, ends[0], inside | {(place, ends[0])})
                place = ends[0] + 1
            else:
                self._step(place)
                place += 1

    def _step(self, place: int) -> None:
        one = self.code[place]
        if (arrived := self.arriving.pop(place, None)) is not None:
            self.state = arrived if self.state is None else self._joined(self.state, arrived)
        if self.state is None:
            return
        self.state.seen = self.see(one, self.state)
        taken = self.predicate(one.under, self.state) if one.under else np.ones(self.threads, bool)
        if taken is not None and taken.any() and not one.always and one.words[0] == "BRA" and len(one.operands) > 1:
            taken = None  # by another condition, too
        ahead = one.target in self.place and one.target > one.address
        if ahead and one.target is not None and (taken is None or taken.any()):
            left = State(dict(self.state.values), self.state.seen)
            before = self.arriving.get(self.place[one.target])
            self.arriving[self.place[one.target]] = left if before is None else self._joined(before, left)
        if (ahead or one.words[0] in ("EXIT", "RET")) and taken is not None and taken.all():
            self.state = None
        elif one.target is None and (taken is None or taken.any()):
            self._write(one, taken, self.state)

    def _joined(self, first: State[Seen], second: State[Seen]) -> State[Seen]:
        same: dict[str, Vector | None] = {}
        for name, value in first.values.items():
            other = second.values.get(name)
            if value is other or (value is not None and other is not None and np.array_equal(value, other)):
                same[name] = value
        return State(same, self.joined(first.seen, second.seen))

    def value(self, operand: str, state: State[Seen]) -> Vector | None:
        """Of a register, or a constant; of `[R1+UR2+0x10]` the address."""
        if operand.startswith("["):
            parts = [self.value(part, state) for part in operand.strip("[]").split("+")]
            known = [part for part in parts if part is not None]
            return sum(known, np.zeros(self.threads, np.int64)) & 0xFFFFFFFF if len(known) == len(parts) else None
        if operand[0] in "-~":
            inner = self.value(operand[1:], state) if operand[1:2].isalnum() else None
            return None if inner is None else (-inner if operand[0] == "-" else ~inner) & 0xFFFFFFFF
        if operand.split(".")[0] in ("RZ", "URZ", "SRZ"):
            return np.zeros(self.threads, np.int64)
        if operand.startswith("0x"):
            return np.full(self.threads, int(operand, 16), np.int64)
        named = _REGISTER.match(operand)
        return state.values.get(named[1] + named[2]) if named else None

    def predicate(self, operand: str, state: State[Seen]) -> npt.NDArray[np.bool_] | None:
        """Of `P0` or `!P0`."""
        name = operand.lstrip("!")
        value = np.ones(self.threads, np.int64) if name in ("PT", "UPT") else state.values.get(name)
        return None if value is None else (value == 0) if operand.startswith("!") else (value != 0)

    def _write(self, one: Instruction, taken: npt.NDArray[np.bool_] | None, state: State[Seen]) -> None:
        """Write what is known of the results; taken: by which threads."""
        known = dict(zip(one.results, self._known(one, state), strict=False))
        for name in one.results:
            new, old = known.get(name), state.values.get(name)
            if taken is None:
                new = new if new is not None and old is not None and np.array_equal(new, old) else None
            elif not taken.all():
                new = None if new is None or old is None else np.where(taken, new, old)
            state.values[name] = new

    def _known(self, one: Instruction, state: State[Seen]) -> list[Vector | None]:
        """The first results, as far as they are known."""
        words, name = one.words, one.words[0].removeprefix("U")
        given = [operand for operand in one.given if not _PREDICATE.match(operand)]
        read = [self.value(operand, state) for operand in given]
        if name.endswith("SETP"):
            return [self._compared(one, state)]
        if name in ("S2R", "S2UR"):
            if given[0] in ("SR_TID.X", "SR_CgaCtaId"):
                return [np.arange(self.threads) * int(given[0] == "SR_TID.X")]
            return []
        if name == "CS2R":
            return [np.zeros(self.threads, np.int64)] * 2 if given[0] == "SRZ" else []
        if name == "R2UR":  # a warp's, of its first lane
            return [None if read[0] is None else np.repeat(read[0][::32], 32)]
        if name == "SHFL":
            first = words[1] == "IDX" and given[1:3] == ["RZ", "0x1f"]  # of the warp
            lanes = self.value(given[0], state) if first else None
            return [None, None if lanes is None else np.repeat(lanes[::32], 32)]
        if name == "IADD3" and words[-1] == "64":  # the low half; the high one stays unknown
            read = read[:2]
        known = [value for value in read if value is not None]
        if len(known) < len(read):
            return []
        if name == "IADD3" and words[-1] != "64":
            return self._sum(one, known, state)
        if "X" in words[1:]:
            return []
        last = one.operands[-1] if one.operands else ""
        result = computed(name, words, known, self.predicate(last, state) if _PREDICATE.match(last) else None)
        if name == "LOP3" and _PREDICATE.match(one.operands[0]) and result is not None:
            return [(result != 0).astype(np.int64), result]
        return [result]

    def _sum(self, one: Instruction, read: list[Vector], state: State[Seen]) -> list[Vector | None]:
        """Of IADD3, and the carry of two addends that have their signs; .X adds the carries that it names."""
        carries = [self.predicate(operand, state) for operand in one.given if _PREDICATE.match(operand)]
        if any(carry is None for carry in carries):
            return []
        total = sum([carry.astype(np.int64) for carry in carries if carry is not None], sum(read))
        signs = any(operand[0] in "-~" for operand in one.given)
        return [total & MASK, None if signs or (total >> 33).any() else total >> 32]

    def _compared(self, one: Instruction, state: State[Seen]) -> Vector | None:
        first, second = (self.value(operand, state) for operand in one.operands[2:4])
        other = self.predicate(one.operands[4], state) if len(one.operands) > 4 else None
        compare = COMPARED.get(one.words[1])
        whole = one.words[0] in ("ISETP", "UISETP") and "EX" not in one.words and compare is not None
        if not whole or compare is None or first is None or second is None or other is None:
            return None
        met = compare(first, second) if "U32" in one.words else compare(signed(first), signed(second))
        if "XOR" in one.words:
            return None
        return (met & other if "AND" in one.words else met | other).astype(np.int64)
