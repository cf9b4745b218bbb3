"""Whether float32 products may be TF32's: as PyTorch's settings say of a convolution, which ours stand in for."""

from __future__ import annotations

import torch


def allowed() -> bool:
    """Whether PyTorch would use TF32 for a float32 convolution.

    By `torch.backends.cudnn.conv.fp32_precision`: the older `cudnn.allow_tf32` sets it too, but raises when it is read
    after one of the newer settings was made.
    """
    allowed: bool = torch.backends.cudnn.conv.fp32_precision == "tf32"
    return allowed
