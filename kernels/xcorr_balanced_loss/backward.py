"""Triton kernel of the joint loss's backward pass, which scales the gradients that the forward pass has computed."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def scale_samples_kernel(data_ptr, grad_ptr, count, BLOCK: tl.constexpr):
    """data[n] *= grad[n], in place; nothing is read or written where the factor is 1, which it is in most trainings."""
    n = tl.program_id(0).to(tl.int64)
    factor = tl.load(grad_ptr + n)
    if factor != 1.0:
        k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        at = data_ptr + n * count + k
        value = tl.load(at, mask=k < count, other=0.0)
        tl.store(at, (value.to(tl.float32) * factor).to(value.dtype), mask=k < count)
