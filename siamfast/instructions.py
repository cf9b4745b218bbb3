"""In which precisions below float32 this machine is fast and right."""

from __future__ import annotations

from typing import Any

import torch


def fast_bfloat16(device: torch.device) -> bool:
    """Whether convolutions are faster in bfloat16: twice as fast on AVX512-BF16 and AMX, slower where it is
    emulated."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and (_supports("_is_avx512_bf16_supported") or has_amx())


def has_amx() -> bool:
    """Whether this CPU multiplies tiles of 8-bit and bfloat16 numbers: Intel's, since Sapphire Rapids."""
    return _supports("_is_amx_tile_supported")


def _supports(name: str) -> bool:
    """What PyTorch says of this CPU; False where it has no such question."""
    return bool(getattr(torch.cpu, name, lambda: False)())


def onednn_operator(*names: str) -> Any:
    """The first of these operators that this PyTorch has, or None: they were renamed."""
    for name in names:
        operator = getattr(torch.ops.onednn, name, None)
        if operator is not None:
            return operator
    return None


def int8_missing() -> str | None:
    """None when 8-bit inference is correct and fast here, else the reason why not.

    Without VNNI, oneDNN multiplies bytes in 16 bits, which can saturate: wrong, and slower than bfloat16.
    """
    if not _supports("_is_vnni_supported"):
        return "this CPU has no AVX-512 VNNI"
    if not torch.backends.mkldnn.is_available() or onednn_operator("qconv_pointwise", "qconv2d_pointwise") is None:
        return "this PyTorch has no oneDNN 8-bit convolution"
    return None
