"""Results of SASS operations on known values: the integer ones that addresses are made by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.int64]  # unsigned 32-bit numbers
Flags = npt.NDArray[np.bool_]

COMPARED: dict[str, Callable[[Vector, Vector], Flags]] = {
    "EQ": np.equal, "NE": np.not_equal, "LT": np.less, "LE": np.less_equal, "GT": np.greater, "GE": np.greater_equal,
}  # fmt: skip
MASK = 0xFFFFFFFF


def signed(value: Vector) -> Vector:
    """As two's complement."""
    return value - ((value >> 31) << 32)


def computed(name: str, words: list[str], read: list[Vector], chosen: Flags | None) -> Vector | None:
    """name: of the operation; words: with its modifiers; chosen: the predicate that is its last operand, None: unknown.
    None: this operation is not one of them."""
    if name == "MOV":
        return read[0]
    if name == "IMAD" and len(read) == 3 and not {"HI", "WIDE"} & set(words):
        return (read[0] * read[1] + read[2]) & MASK
    if name in ("IADD3", "VIADD"):
        return sum(read[1:], read[0]) & MASK
    if name == "LEA":
        return _lea(words, read)
    if name == "LOP3":
        return _logic(read) if len(read) == 4 else None
    if name == "SHF":
        return _shifted(words, read)
    if name == "SGXT" and (read[1] == read[1][0]).all():
        bits = int(read[1][0])
        low = read[0] & ((1 << bits) - 1)
        return low if "U32" in words else (low - ((low >> (bits - 1)) << bits)) & MASK
    if name == "SEL" and chosen is not None:
        return np.where(chosen, read[0], read[1])
    return None


def _lea(words: list[str], read: list[Vector]) -> Vector | None:
    """(a << s) + b; of LEA.HI b and the upper half of the shifted pair (c, a), where c is 0."""
    if "HI" not in words:
        return ((read[0] << read[2]) + read[1]) & MASK if len(read) == 3 else None
    if len(read) != 4 or read[2].any():
        return None
    return ((read[0] >> (32 - read[3])) + read[1]) & MASK


def _logic(read: list[Vector]) -> Vector:
    """Any function of three bits, by its table."""
    a, b, c, table = read[0], read[1], read[2], int(read[3][0])
    result = np.zeros_like(a)
    for row in range(8):
        if table >> row & 1:
            result |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
    return result & MASK


def _shifted(words: list[str], read: list[Vector]) -> Vector | None:
    """Of the pair (low, high) by a count, where the other half is 0. Counts of 32 and more are left out."""
    low, count, high = read
    if (count > 31).any():
        return None
    if "L" in words:
        return None if "HI" in words or high.any() else (low << count) & MASK
    if {"U64", "S64"} & set(words) and "HI" not in words:  # the low half of the result
        return None if high.any() else low >> count
    if "HI" not in words or low.any():
        return None
    return ((signed(high) if "S32" in words else high) >> count) & MASK
