"""Batched matrix products by cuBLAS, summed and returned in float32."""

from __future__ import annotations

import torch
from siamfast.kernels.tf32 import EXACT


def multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(N, I, C) x (N, C, J) of one dtype -> (N, I, J) float32. Of float32, by torch.backends.cuda.matmul's settings."""
    if a.dtype == torch.float32:
        return torch.bmm(a, b)
    # Sums in float16, which a user may ask of PyTorch, it does not return in float32.
    if a.is_cuda and not (a.dtype == torch.float16 and torch.backends.cuda.matmul.allow_fp16_accumulation):
        return torch.bmm(a, b, out_dtype=torch.float32)  # type: ignore[call-overload, no-any-return]
    return torch.bmm(a.float(), b.float())  # the interpreter's tensors too


def no_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """In place of torch.bmm where only the launches of a call are wanted: zeros of its result's shape."""
    return torch.zeros(a.shape[0], a.shape[1], b.shape[2])


def follows_settings(precision: str) -> bool:
    """Whether a product of the precision that PyTorch's settings of a convolution ask for is as exact by those of a
    matrix product."""
    return precision != EXACT or torch.backends.cuda.matmul.fp32_precision != "tf32"
