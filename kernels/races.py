"""Finds a race in Triton's GPU code that neither the interpreter nor a result shows: a copy overwrites a shared buffer
while an asynchronous matrix product may still read it.

On sm_90 a `warp_group_dot` with `isAsync` reads its operands from shared memory after it is issued; a
`warp_group_dot_wait` with `pendings = P` lets the last P of them go on. A pipelined loop fills the buffers of an
iteration some iterations ahead, after that wait: with B buffers, D iterations ahead, the buffer of the product that was
issued J iterations ago if D + J is a multiple of B. Triton (3.6.0 to 3.9.0) has one buffer too few for an operand that
the loop also loads into registers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_RESULT = re.compile(r"^\s*(%[\w#]+)(?::\d+)? = ")
_OPERATION = re.compile(r"\b(?:ttg|ttng|arith)\.\w+")
_VALUE = re.compile(r"%[\w-]+")
_CONSTANT = re.compile(r"%c(-?\d+)_i32(?:_\d+)?$")
_CARRIED = re.compile(r"(%\w+) = (%[\w#-]+)")
_FILLS = ("ttg.async_copy_global_to_local", "ttg.local_store", "ttng.async_tma_copy_global_to_local")


@dataclass
class _Loop:
    """The events in the body of one loop, in order: ("product", its number, 0), ("wait", how many it leaves pending,
    0), ("fill", the allocation, its place); and the allocations that each product reads, with their places.

    A place is the index of the buffer in the loop's first iteration, before it wraps around; None: not known."""

    events: list[tuple[str, int | str, int | None]] = field(default_factory=list)
    products: list[list[tuple[str, int | None]]] = field(default_factory=list)


def races(ttgir: str) -> list[str]:
    """One line for each buffer that is filled while a product may read it; ttgir: `compiled.asm["ttgir"]`."""
    roots: dict[str, tuple[str, int | None]] = {}  # a view of shared memory -> its allocation and place there
    buffers: dict[str, int] = {}  # an allocation -> its number of buffers
    numbers: dict[str, int] = {}  # a value -> what it is in the first iteration
    blocks: list[_Loop | None] = []  # open ones: loops, and others (None)
    lines: list[str] = []

    def number(value: str) -> int | None:
        constant = _CONSTANT.match(value)
        return int(constant[1]) if constant else numbers.get(value)

    for text in ttgir.splitlines():
        line = text.split(" loc(")[0]
        named, operation = _RESULT.match(line), _OPERATION.search(line)
        result, kind = named[1] if named else "", operation[0] if operation else ""
        values = _VALUE.findall(line[named.end() :] if named else line)
        loop = next((block for block in reversed(blocks) if block is not None), _Loop())
        if kind == "ttg.local_alloc":
            sides = [side for side in line.split("memdesc<")[-1].split("x") if side.isdigit()]
            buffers[result] = int(sides[0]) if "mutable" in line and len(sides) == 3 else 1
            roots[result] = result, 0
            if values:  # filled where it is allocated, once per iteration
                loop.events.append(("fill", result, 0))
        elif kind == "ttg.memdesc_index" and values[0] in roots:
            roots[result] = roots[values[0]][0], number(values[1])
        elif kind.startswith("ttg.memdesc_") and values[0] in roots:
            roots[result] = roots[values[0]]
        elif kind in _FILLS:
            loop.events += [("fill", *roots[value]) for value in values if value in roots]
        elif kind == "ttng.warp_group_dot" and "isAsync = true" in line:
            loop.events.append(("product", len(loop.products), 0))
            loop.products.append([roots[value] for value in values[:2] if value in roots])
        elif kind == "ttng.warp_group_dot_wait":
            pending = re.search(r"pendings = (\d+)", line)
            loop.events.append(("wait", int(pending[1]) if pending else 0, 0))
        elif kind == "arith.addi":
            if (first := number(values[0])) is not None and (second := number(values[1])) is not None:
                numbers[result] = first + second
        elif kind == "arith.select" and (kept := number(values[2])) is not None:  # (past the last one, 0, the next one)
            numbers[result] = kept
        if "scf.for" in line:
            for carried, given in _CARRIED.findall(line.partition("iter_args(")[2]):
                if (start := number(given)) is not None:
                    numbers[carried] = start
        braces = re.sub(r"\{[^{}]*\}", "", line)  # without attributes, which open and close in a line
        for brace in re.findall(r"[{}]", braces):
            if brace == "{":
                blocks.append(_Loop() if "scf.for" in line or "scf.while" in line else None)
            elif blocks and (ended := blocks.pop()) is not None:
                lines += _overwritten(ended, buffers)
    return lines


def _overwritten(loop: _Loop, buffers: dict[str, int]) -> list[str]:
    """The lines of one loop, whose body is repeated."""
    count = len(loop.products)
    lines = []
    for number, reads in enumerate(loop.products):
        for root, read in reads:
            # Iterations whose product of this number may be pending where the buffer is filled: issued, not waited for.
            issued = pending = 0
            for at, (kind, what, place) in enumerate(loop.events * (2 + buffers[root])):
                if kind == "product" and what == number:
                    issued, pending = issued + 1, pending + 1
                elif kind == "wait":
                    later = count - 1 - number  # products of the same iteration that were issued after it
                    pending = min(pending, max(0, -(-(int(what) - later) // count)))
                elif kind == "fill" and what == root:
                    iteration = at // len(loop.events)
                    # The products of iterations issued - pending .. issued - 1 may be pending.
                    reading = [
                        n
                        for n in range(issued - pending, issued)
                        if place is None or read is None or (place + iteration - read - n) % buffers[root] == 0
                    ]
                    if reading:
                        lines.append(
                            f"{root}, {buffers[root]} buffer(s), is filled while {pending} product(s) are pending, one "
                            "of which may still read it"
                        )
                        break
    return lines
