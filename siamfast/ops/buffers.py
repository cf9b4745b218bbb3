"""Descriptions of tensors and arrays for siamfast._C: address, shape and strides."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.ops import dispatch


class Buffer(NamedTuple):
    """As in csrc/bindings.h, with the axes of its op."""

    data: int  # address; 0: absent
    dtype: int  # from dispatch.CODES
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    unit: int  # bytes of a stride of 1


_ARRAY_CODES = {  # NumPy has no bfloat16
    np.dtype(str(dtype).removeprefix("torch.")): code
    for dtype, code in dispatch.CODES.items()
    if dtype != torch.bfloat16
}

ABSENT_MAPS = Buffer(0, dispatch.CODES[torch.float32], (0,) * 4, (0,) * 4, 0)  # (N, C, H, W)
ABSENT_FRAMES = Buffer(0, dispatch.CODES[torch.float32], (0,) * 5, (0,) * 5, 0)  # (N, T, C, H, W)


def of_tensor(t: torch.Tensor) -> Buffer:
    """The buffer of a tensor, valid as long as the tensor lives."""
    return Buffer(t.data_ptr(), dispatch.CODES[t.dtype], t.shape, t.stride(), t.element_size())


def of_array(array: NDArray[Any]) -> Buffer:
    """The buffer of an array, valid as long as the array lives."""
    address = array.__array_interface__["data"][0]
    return Buffer(address, _ARRAY_CODES[array.dtype], array.shape, array.strides, 1)


def address(t: torch.Tensor | None) -> int:
    """The address of a tensor, which must live as long as it is used; 0 for None."""
    return 0 if t is None else t.data_ptr()
