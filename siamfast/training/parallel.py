"""How a training's networks run: on a part of a batch, in several processes, with a common BatchNorm, compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Protocol

import torch
from torch.nn.parallel import DistributedDataParallel

from siamfast.training.batch_norm import SharedBatchNorm2d
from siamfast.training.batches import Batch
from siamfast.training.ranks import Ranks


class PartLoss(Protocol):
    """Computes a part's share of the loss of this process's rows, and adds its gradients to those of the networks;
    `exchange`: and then takes their means over the processes."""

    def __call__(self, batch: Batch, *, exchange: bool) -> torch.Tensor: ...


class _Wrapped(torch.nn.Module):
    """The forward pass as DistributedDataParallel wraps it: a part of a batch -> its loss."""

    def __init__(self, loss: Callable[[Batch], torch.Tensor], networks: dict[str, torch.nn.Module]) -> None:
        super().__init__()
        self.networks = torch.nn.ModuleDict(networks)
        self._loss = loss

    def forward(self, batch: Batch) -> torch.Tensor:
        return self._loss(batch)


def parallel(
    loss: Callable[[Batch], torch.Tensor],
    networks: dict[str, torch.nn.Module],
    parts: int,
    rests: bool,
    ranks: Ranks,
    device: torch.device,
) -> PartLoss:
    """`loss` and its gradients, over `parts` parts of this process's rows, by DistributedDataParallel if others train
    too. rests: whether some parameters have no gradient in some steps."""
    wrapped: Callable[[Batch], torch.Tensor] = loss
    without_exchange: Callable[[], object] = nullcontext
    if ranks.count > 1:
        module = DistributedDataParallel(
            _Wrapped(loss, networks),
            device_ids=[device] if device.type == "cuda" else None,
            find_unused_parameters=rests,
        )
        wrapped, without_exchange = module, module.no_sync

    def part_loss(batch: Batch, *, exchange: bool) -> torch.Tensor:
        with nullcontext() if exchange else without_exchange():  # type: ignore[attr-defined]
            value = wrapped(batch) / parts
            value.backward()
        return value.detach()

    return part_loss


def share_batch_norm(networks: Iterable[torch.nn.Module], device: torch.device) -> None:
    """Make every BatchNorm2d within the networks one over all processes, with its parameters and statistics."""
    for network in networks:
        if device.type == "cuda":
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
            continue
        for module in network.modules():
            if type(module) is torch.nn.BatchNorm2d:
                module.__class__ = SharedBatchNorm2d  # it has the same attributes


def compile_networks(networks: Iterable[torch.nn.Module]) -> None:
    """Compile the networks' composed modules in place, by torch.compile."""
    # Modules of one class share a limit, of 8 versions; a ResNet has more blocks than that.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    for network in networks:
        for child in network.children():
            if isinstance(child, torch.nn.ModuleList | torch.nn.ModuleDict):
                compile_networks([child])
            elif any(True for _ in child.children()):
                child.compile()
