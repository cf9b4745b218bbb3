"""A SiamFC training step as the community writes it (siamfc-pytorch, rewritten): the peer of bench_training.

float32, NCHW, a convolution with one group per pair, a label map made by NumPy, a loss of a dozen small kernels, SGD.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from siamfast.models.siamfc import SiamFC

STRIDE, R_POS = 8, 16


def label_map(side: int) -> torch.Tensor:
    """(side, side): 1 within R_POS pixels of the middle by city-block distance, 0 beyond."""
    distance = np.abs(np.arange(side) - (side - 1) / 2)
    return torch.from_numpy((distance[:, None] + distance[None, :] <= R_POS / STRIDE).astype(np.float32))


def balanced_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """scores, labels: (N, 1, H, W). Positives and negatives weigh one half each over the batch."""
    positive, negative = labels == 1, labels == 0
    weights = torch.zeros_like(labels)
    weights[positive] = 1 / positive.sum()
    weights[negative] = 1 / negative.sum()
    return F.binary_cross_entropy_with_logits(scores, labels, weights / weights.sum(), reduction="sum")


class CommunityStep:
    """One optimizer step per call on (template, search), float 0..255, (N, 3, S, S)."""

    def __init__(self, model: SiamFC) -> None:
        self.model = model.train().float()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9, weight_decay=5e-4)

    def loss(self, template: torch.Tensor, search: torch.Tensor) -> torch.Tensor:
        z, x = self.model.embed(template), self.model.embed(search)
        n, c, h, w = x.shape
        scores = F.conv2d(x.reshape(1, n * c, h, w), z, groups=n).transpose(0, 1) * self.model.scale + self.model.bias
        labels = label_map(scores.shape[-1]).expand_as(scores).contiguous().to(scores.device)
        return balanced_loss(scores, labels)

    def __call__(self, template: torch.Tensor, search: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(template, search)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())
