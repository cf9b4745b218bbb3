"""How often the warps of a block compute the same number of a product.

Triton divides a product's result between the warps by rows or by columns, and not always between all: one of 64 rows,
divided by tensor-core instructions of 16 rows, is done by four warps, and by the next four again, as by columns one
that is narrower than the warps together. Such work is right, and lost. Small products beside a large one are left out.
"""

from __future__ import annotations

import re

_LAYOUT = re.compile(
    r"^(#mma\d*) = #ttg\.nvidia_mma<\{.*warpsPerCTA = \[(\d+), (\d+)\], instrShape = \[(\d+), (\d+)", re.MULTILINE
)
_PRODUCT = re.compile(
    r"= (?:tt\.dot|ttng\.warp_group_dot) [^:]*(?:\{[^}]*\} )?: (?:tensor|!ttg\.memdesc)<\d+x(\d+)x.*"
    r"-> tensor<(\d+)x(\d+)xf32, (#mma\d*)>"
)


def repeats(ttgir: str) -> int:
    """How many warps do the same part of a product; of several, those with more than half the FLOP of the largest."""
    cover = {}  # rows and columns that all warps do at once
    for name, *numbers in _LAYOUT.findall(ttgir):
        down, across, rows, columns = (int(number) for number in numbers)
        cover[name] = down * rows, across * columns
    products = []  # FLOP, and how many warps do the same part
    for *sides, name in _PRODUCT.findall(ttgir):
        inner, rows, columns = (int(side) for side in sides)
        times = max(1, cover[name][0] // rows) * max(1, cover[name][1] // columns)
        products.append((inner * rows * columns, times))
    largest = max((flop for flop, _ in products), default=0)
    return max((times for flop, times in products if 2 * flop > largest), default=1)
