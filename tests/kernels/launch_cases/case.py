"""A call that launches kernels, and the tensors that it is made with.

The tensors hold zeros: only their shapes, dtypes, strides and addresses decide what is launched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class Case(NamedTuple):
    op: str
    name: str
    call: Callable[[], Any]
    tf32: bool = True  # whether float32 products may be TF32's
    always: bool = False  # also part of a sample


def zeros(shape: tuple[int, ...], dtype: torch.dtype, layout: str = "plain") -> torch.Tensor:
    """A tensor that requires a gradient, in the given memory layout."""
    if layout == "channels_last":
        made = torch.zeros(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
    elif layout == "transposed":
        made = torch.zeros((*shape[:-2], shape[-1], shape[-2]), dtype=dtype).transpose(-1, -2)
    elif layout == "cut out":
        larger = torch.zeros((*shape[:-2], shape[-2] + 3, shape[-1] + 5), dtype=dtype)
        made = larger[..., 1 : shape[-2] + 1, 3 : shape[-1] + 3]
    elif layout == "shifted":  # contiguous, its first element at an odd address
        made = torch.zeros(int(np.prod(shape)) + 1, dtype=dtype)[1:].view(shape)
    else:
        made = torch.zeros(shape, dtype=dtype)
    return made.requires_grad_(made.is_floating_point())


LAYOUTS = ("plain", "channels_last", "transposed", "cut out", "shifted")


def backward(out: torch.Tensor, *inputs: torch.Tensor | None) -> None:
    torch.autograd.grad(out, [t for t in inputs if t is not None], torch.zeros_like(out), allow_unused=True)
