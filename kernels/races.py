"""Finds a race in Triton's GPU code that neither the interpreter nor a result shows: a copy overwrites a shared buffer
while an asynchronous matrix product may still read it.

On sm_90 a `warp_group_dot` with `isAsync` reads its operands from shared memory after it is issued; a
`warp_group_dot_wait` with `pendings = P` lets the last P of them go on. On sm_100 a `tc_gen5_mma` with `is_async` does
the same, and names the barrier that says when it and all before it are done; a loop may wait for the barrier of an
earlier iteration, which its variables hand on. A pipelined loop fills the buffers of an iteration some iterations
ahead, after that wait: with B buffers, D iterations ahead, the buffer of the product that was issued J iterations ago
if D + J is a multiple of B. Triton (3.6.0 to 3.9.0) has on sm_90 one buffer too few for an operand that the loop also
loads into registers.

sass_races.py looks for the same on sm_90 in the code that ptxas makes of it. Read are `scf.for` loops, one in another
too. What is under a condition is taken to happen, and a wait to be for the
right phase of its barrier.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_RESULT = re.compile(r"^\s*(%[\w#]+)(?::\d+)? = ")
_OPERATION = re.compile(r"\b(?:ttg|ttng|arith)\.\w+")
_VALUE, _VALUES = re.compile(r"%[\w-]+"), re.compile(r"%[\w#-]+")
_CONSTANT = re.compile(r"%c(-?\d+)_i32(?:_\d+)?$")
_CARRIED = re.compile(r"(%\w+) = (%[\w#-]+)")
_BARRIER = re.compile(r"(%[\w#-]+)\[%[\w#-]+\]")
_FILLS = ("ttg.async_copy_global_to_local", "ttg.local_store", "ttng.async_tma_copy_global_to_local")


@dataclass
class _Loop:
    """The events in the body of one loop, in order: ("product", its number, 0), ("wait", how many it leaves pending,
    0), ("barrier", its name, 0), ("fill", the allocation, its place); the allocations that each product reads, with
    their places, and its barriers; and the loop's variables with what the next iteration gets for them.

    A place is the index of the buffer in the loop's first iteration, before it wraps around; None: not known."""

    events: list[tuple[str, int | str, int | None]] = field(default_factory=list)
    products: list[list[tuple[str, int | None]]] = field(default_factory=list)
    barriers: list[list[str]] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    handed_on: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)  # of the variables after the last iteration
    given: dict[str, str] = field(default_factory=dict)  # results of a loop inside -> the first value of its variables

    def waited_for(self, barrier: str, at: int) -> tuple[int, int] | None:
        """The number of the product that the wait at event `at` is for, and how many iterations ago it was issued."""
        inside = any(barrier in names for names in self.barriers)
        barrier = barrier if inside else self.given.get(barrier, barrier)
        for ago in range(1 + len(self.variables)):
            for number, names in enumerate(self.barriers):
                if barrier in names:
                    # One barrier for all iterations, waited for before it is given away again: the last iteration's.
                    return number, ago + (ago == 0 and ("product", number, 0) in self.events[at:])
            if barrier not in self.variables:
                break
            barrier = self.handed_on[self.variables.index(barrier)]
        return None


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
        elif (kind == "ttng.warp_group_dot" and "isAsync = true" in line) or (
            kind == "ttng.tc_gen5_mma" and "is_async" in line
        ):
            loop.events.append(("product", len(loop.products), 0))
            loop.products.append([roots[value] for value in values[:2] if value in roots])
            loop.barriers.append(_BARRIER.findall(line.partition(" : ")[0]) if kind == "ttng.tc_gen5_mma" else [])
        elif kind == "ttng.wait_barrier":
            loop.events.append(("barrier", _VALUES.findall(line)[0], 0))
        elif kind == "ttng.warp_group_dot_wait":
            pending = re.search(r"pendings = (\d+)", line)
            loop.events.append(("wait", int(pending[1]) if pending else 0, 0))
        elif kind == "arith.addi":
            if (first := number(values[0])) is not None and (second := number(values[1])) is not None:
                numbers[result] = first + second
        elif kind == "arith.select" and (kept := number(values[2])) is not None:  # (past the last one, 0, the next one)
            numbers[result] = kept
        variables = _CARRIED.findall(line.partition("iter_args(")[2]) if "scf.for" in line else []
        results = [f"{result}#{place}" for place in range(len(variables))] if len(variables) > 1 else [result]
        loop.given.update(zip(results, (given for _, given in variables), strict=False))
        for carried, given in variables:
            if (start := number(given)) is not None:
                numbers[carried] = start
        if "scf.yield" in line and blocks and (ending := blocks[-1]) is not None:
            ending.handed_on = _VALUES.findall(line.partition(" : ")[0])
        braces = re.sub(r"\{[^{}]*\}", "", line)  # without attributes, which open and close in a line
        for brace in re.findall(r"[{}]", braces):
            if brace == "{":
                loops = "scf.for" in line or "scf.while" in line
                blocks.append(_Loop(variables=[name for name, _ in variables], results=results) if loops else None)
            elif blocks and (ended := blocks.pop()) is not None:
                lines += _overwritten(ended, buffers)
                if (around := next((block for block in reversed(blocks) if block is not None), None)) is not None:
                    _leave_pending(ended, around)
    return lines


def _leave_pending(loop: _Loop, around: _Loop) -> None:
    """The products that a loop does not wait for are one more of the loop around it."""
    left = [n for n in range(len(loop.products)) if list(_pending(loop, n, 3))[-1][-1]]
    if left:
        ended = {name for n in left for name in loop.barriers[n]}
        around.events.append(("product", len(around.products), 0))
        around.products.append([(root, None) for n in left for root, _ in loop.products[n]])
        around.barriers.append([r for r, value in zip(loop.results, loop.handed_on, strict=False) if value in ended])


def _pending(loop: _Loop, number: int, rounds: int) -> Iterator[tuple[str, int | str, int | None, int, int, int]]:
    """Each event of the first iterations, its iteration, how many products of this number were issued by then, and how
    many of these may be pending."""
    count, issued, pending = len(loop.products), 0, 0
    for at, (kind, what, place) in enumerate(loop.events * rounds):
        iteration = at // len(loop.events)
        if kind == "product" and what == number:
            issued, pending = issued + 1, pending + 1
        elif kind == "wait":
            later = count - 1 - number  # products of the same iteration that were issued after it
            pending = min(pending, max(0, -(-(int(what) - later) // count)))
        elif kind == "barrier" and (waited := loop.waited_for(str(what), at % len(loop.events))) is not None:
            other, ago = waited  # done are the products up to that one, of that iteration
            pending = min(pending, max(0, issued - max(0, iteration - ago + (number <= other))))
        yield kind, what, place, iteration, issued, pending


def _overwritten(loop: _Loop, buffers: dict[str, int]) -> list[str]:
    """The lines of one loop, whose body is repeated."""
    lines = []
    for number, reads in enumerate(loop.products):
        for root, read in reads:
            # Products whose buffer is filled while they may be pending: issued, not waited for.
            for kind, what, place, iteration, issued, pending in _pending(loop, number, 2 + buffers[root]):
                if kind == "fill" and what == root:
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
