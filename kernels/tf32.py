"""Products on tensor cores, and whether those of float32 may be TF32's, as PyTorch's settings say of a convolution.

The full correlation's forward is not among them: its product is cuBLAS's and follows `torch.backends.cuda.matmul`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

# The product that gives float32's accuracy by three of TF32. It wants their factors in registers at once, so that half
# as many sums fit beside them.
EXACT = "tf32x3"


def allowed() -> bool:
    """Whether PyTorch would use TF32 for a float32 convolution.

    By `torch.backends.cudnn.conv.fp32_precision`: the older `cudnn.allow_tf32` sets it too, but raises when it is read
    after one of the newer settings was made.
    """
    allowed: bool = torch.backends.cudnn.conv.fp32_precision == "tf32"
    return allowed


def precision(x: torch.Tensor) -> str:
    """TF32 where PyTorch would use it for a convolution, else three TF32 products that give float32's accuracy."""
    if x.dtype != torch.float32:
        return "ieee"
    return "tf32" if allowed() else EXACT


def product_constants(x: torch.Tensor) -> dict[str, Any]:
    """The constants of `product` for tensors like x."""
    return {"PRECISION": precision(x), "UPCAST": not x.is_cuda}


@triton.jit
def product(a, b, total, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """total + a @ b on tensor cores. UPCAST is for the interpreter, whose bfloat16 products are garbage."""
    if UPCAST:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="ieee")
    return tl.dot(a, b, total, input_precision=PRECISION)
