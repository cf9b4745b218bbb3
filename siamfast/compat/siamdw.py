"""SiamDW's and TracKit's head `Corr_Up` under its own name."""

from __future__ import annotations

import torch

from siamfast.ops.xcorr import xcorr as _xcorr


class Corr_Up(torch.nn.Module):
    """0.1 * correlation: each search with its own template in training, with every template in evaluation."""

    def forward(self, z_f: torch.Tensor, x_f: torch.Tensor) -> torch.Tensor:
        """z_f: (Nz, C, Hz, Wz), x_f: (Nx, C, Hx, Wx) -> (Nx, 1, Ho, Wo) in training, (Nx, Nz, Ho, Wo) else."""
        return _xcorr(z_f, x_f, scale=0.1, pairing="cycle" if self.training else "all")
