"""Integer arithmetic of launchers. Triton's `cdiv` and `next_power_of_2` serve kernels too and cost 2 us per call."""

from __future__ import annotations

import operator
from typing import Any

# Programs of a grid's first axis, and what kernels count with int32 numbers: cells and offsets, and the numbers beyond
# the last cell in the block that it is in; and programs of each other axis.
MOST, MOST_ACROSS = 2**31 - 2**16, 65535


def cdiv(count: int, block: int) -> int:
    """The number of blocks that `count` things fill.

    >>> cdiv(0, 4), cdiv(4, 4), cdiv(5, 4)
    (0, 1, 2)
    """
    return -(-count // block)


def next_power_of_2(count: int) -> int:
    """The least power of 2 that is at least `count` >= 1.

    >>> [next_power_of_2(n) for n in (1, 2, 3, 64, 65)]
    [1, 2, 4, 64, 128]
    """
    return 1 << (count - 1).bit_length()


def offsets_fit(*tensors: Any, axes: int = 2) -> bool:
    """Whether offsets within the last axes, two for a plane, are int32 numbers."""
    return all(sum(map(operator.mul, t.shape[-axes:], t.stride()[-axes:])) <= MOST for t in tensors)
