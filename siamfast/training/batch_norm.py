"""BatchNorm over the batch of all processes that train together; torch.nn.SyncBatchNorm is for GPUs alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; the gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm2d(torch.nn.BatchNorm2d):
    """torch.nn.BatchNorm2d whose statistics in training are those of all processes' images; each has as many.

    Source: Ioffe and Szegedy 2015, "Batch Normalization", algorithm 1; the variance is of differences from the common
    mean, so that it does not cancel.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(input)
        ranks = dist.get_world_size()
        x = input.to(self.running_mean.dtype) if self.running_mean is not None else input
        mean = _Sum.apply(x.mean((0, 2, 3))) / ranks
        centered = x - mean[:, None, None]
        variance = _Sum.apply(centered.square().mean((0, 2, 3))) / ranks
        self._remember(mean.detach(), variance.detach(), ranks * x.numel() // x.shape[1])
        out = centered * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.weight is not None:
            out = out * self.weight[:, None, None] + self.bias[:, None, None]
        return out.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), share)
