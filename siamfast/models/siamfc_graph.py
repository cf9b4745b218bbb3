"""SiamFC's networks as graphs for inference engines: norms folded, our correlation in plain operators."""

from __future__ import annotations

import torch
from torch import nn

from siamfast.models.fused import fuse
from siamfast.models.siamfc import SiamFC
from siamfast.ops.xcorr import xcorr

TEMPLATE_OUTPUTS, SEARCH_OUTPUTS = ("kernel",), ("responses",)


class TemplateGraph(nn.Module):
    """Features of templates, RGB 0..255. Args: model, whose folded copy is used."""

    def __init__(self, model: SiamFC) -> None:
        super().__init__()
        self.backbone = fuse(model)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """image: (N, S, S, 3) uint8 -> (N, 256, h, w)."""
        features: torch.Tensor = self.backbone(image.permute(0, 3, 1, 2))
        return features


class SearchGraph(nn.Module):
    """Responses of search crops to their templates, without SiamFC's bias. Args: model, whose folded copy is used."""

    def __init__(self, model: SiamFC) -> None:
        super().__init__()
        self.backbone, self.scale = fuse(model), model.scale.item()

    def forward(self, image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        """image: (N, K, S, S, 3) uint8, K scales of each of N targets; kernel: (N, 256, 6, 6) -> (N, K, h, w)."""
        scales = image.shape[1]
        # Search i goes with template i mod N: all targets at the first scale come first.
        crops = image.permute(1, 0, 4, 2, 3).flatten(0, 1)
        responses = xcorr(kernel, self.backbone(crops), scale=self.scale)
        return responses[:, 0].unflatten(0, (scales, -1)).transpose(0, 1)
