"""Integers of launchers. Triton's own `cdiv` and `next_power_of_2` serve kernels too and cost 2 microseconds a call."""

from __future__ import annotations


def cdiv(count: int, block: int) -> int:
    """How many blocks hold `count` things.

    >>> cdiv(0, 4), cdiv(4, 4), cdiv(5, 4)
    (0, 1, 2)
    """
    return -(-count // block)


def next_power_of_2(count: int) -> int:
    """The least power of 2 that is not smaller than `count` >= 1.

    >>> [next_power_of_2(n) for n in (1, 2, 3, 64, 65)]
    [1, 2, 4, 64, 128]
    """
    return 1 << (count - 1).bit_length()
