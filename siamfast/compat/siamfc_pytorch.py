"""siamfc-pytorch's head under its own name: `from siamfast.compat.siamfc_pytorch import SiamFC`."""

from __future__ import annotations

import torch

from siamfast.ops.xcorr import xcorr as _xcorr


def fast_xcorr(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`SiamFC._fast_xcorr`. z: (Nz, C, Hz, Wz), x: (k*Nz, C, Hx, Wx) -> (k*Nz, 1, Ho, Wo)."""
    return _xcorr(z, x)


class SiamFC(torch.nn.Module):
    """The head: out_scale * correlation."""

    def __init__(self, out_scale: float = 0.001) -> None:
        super().__init__()
        self.out_scale = out_scale

    def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """z: (Nz, C, Hz, Wz), x: (k*Nz, C, Hx, Wx) -> (k*Nz, 1, Ho, Wo)."""
        return _xcorr(z, x, scale=self.out_scale)
