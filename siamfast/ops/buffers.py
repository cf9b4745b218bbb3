"""Tensors and arrays as siamfast._C takes them: where they are, and how they are laid out."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from siamfast.ops import dispatch


class Buffer(NamedTuple):
    """As csrc/bindings.h has it, with the axes of its op."""

    data: int  # address; 0: there is none
    dtype: int  # of dispatch.CODES
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    unit: int  # bytes that a stride of 1 is


_ARRAY_CODES = {str(dtype).removeprefix("torch."): code for dtype, code in dispatch.CODES.items()}  # by NumPy's names

ABSENT_MAPS = Buffer(0, dispatch.CODES[torch.float32], (0,) * 4, (0,) * 4, 0)  # (N, C, H, W)
ABSENT_FRAMES = Buffer(0, dispatch.CODES[torch.float32], (0,) * 5, (0,) * 5, 0)  # (N, T, C, H, W)


def of_tensor(t: torch.Tensor) -> Buffer:
    """The buffer is valid as long as the tensor lives."""
    return Buffer(t.data_ptr(), dispatch.CODES[t.dtype], t.shape, t.stride(), t.element_size())


def of_array(array: NDArray[Any]) -> Buffer:
    """The buffer is valid as long as the array lives."""
    address = array.__array_interface__["data"][0]
    return Buffer(address, _ARRAY_CODES[array.dtype.name], array.shape, array.strides, 1)


def address(t: torch.Tensor | None) -> int:
    """Of a tensor, which must live as long as it is used; 0: there is none."""
    return 0 if t is None else t.data_ptr()
