"""Finds a race in Triton's GPU code that neither the interpreter nor a result shows: a copy overwrites a shared buffer
while an asynchronous matrix product may still read it.

On sm_90 a `warp_group_dot` with `isAsync` reads its operands from shared memory after it is issued; a
`warp_group_dot_wait` with `pendings = P` lets the last P of them go on. A pipelined loop fills the next iteration's
buffers after that wait. With only as many buffers as iterations may be pending, it fills the one still being read.
Triton (3.6.0 and 3.9.0) does so for an operand that the loop also loads into registers: it has one buffer less.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_RESULT = re.compile(r"^\s*(%[\w#]+)(?::\d+)? = ")
_OPERATION = re.compile(r"\b(?:ttg|ttng)\.\w+")
_VALUE = re.compile(r"%\w+")


@dataclass
class _Loop:
    """The events in the body of one loop, in order: ("product", its number), ("wait", how many it leaves pending),
    ("fill", the allocation); and the allocations that each product reads."""

    events: list[tuple[str, int | str]] = field(default_factory=list)
    products: list[set[str]] = field(default_factory=list)


def races(ttgir: str) -> list[str]:
    """One line for each buffer that is filled while a product may read it; ttgir: `compiled.asm["ttgir"]`."""
    roots: dict[str, str] = {}  # a view of shared memory -> its allocation
    buffers: dict[str, int] = {}  # an allocation -> its number of buffers
    blocks: list[_Loop | None] = []  # open ones: loops, and others (None)
    lines: list[str] = []
    for text in ttgir.splitlines():
        line = text.split(" loc(")[0]
        named, operation = _RESULT.match(line), _OPERATION.search(line)
        result, kind = named[1] if named else "", operation[0] if operation else ""
        values = _VALUE.findall(line[named.end() :] if named else line)
        loop = next((block for block in reversed(blocks) if block is not None), _Loop())
        if kind == "ttg.local_alloc":
            sides = [side for side in line.split("memdesc<")[-1].split("x") if side.isdigit()]
            buffers[result] = int(sides[0]) if "mutable" in line and len(sides) == 3 else 1
            roots[result] = result
            if values:  # filled where it is allocated, once per iteration
                loop.events.append(("fill", result))
        elif kind.startswith("ttg.memdesc_") and values[0] in roots:
            roots[result] = roots[values[0]]
        elif kind in ("ttg.async_copy_global_to_local", "ttg.local_store") and values[1] in roots:
            loop.events.append(("fill", roots[values[1]]))
        elif kind == "ttng.warp_group_dot" and "isAsync = true" in line:
            loop.events.append(("product", len(loop.products)))
            loop.products.append({roots[value] for value in values[:2] if value in roots})
        elif kind == "ttng.warp_group_dot_wait":
            pending = re.search(r"pendings = (\d+)", line)
            loop.events.append(("wait", int(pending[1]) if pending else 0))
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
        for root in sorted(reads):
            # Iterations whose product of this number may be pending where the buffer is filled: issued, not waited for.
            pending = 0
            for kind, what in loop.events * 2:
                if kind == "product" and what == number:
                    pending += 1
                elif kind == "wait":
                    later = count - 1 - number  # products of the same iteration that were issued after it
                    pending = min(pending, max(0, -(-(int(what) - later) // count)))
                elif kind == "fill" and what == root and pending >= buffers[root]:
                    lines.append(
                        f"{root}, {buffers[root]} buffer(s), is filled while {pending} product(s) may still read it"
                    )
                    break
    return lines
