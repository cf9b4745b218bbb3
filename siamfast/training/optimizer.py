"""The optimizer of a training, its learning rate over the steps, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from siamfast.training.config import RunConfig, SiamFCConfig


def learning_rate(config: RunConfig, step: int) -> float:
    """The learning rate of a step: linear warm-up, then exponential decay for SGD (the paper's), a cosine for AdamW."""
    progress = min(1.0, step / max(1, config.steps - 1))
    if config.optimizer == "sgd":
        rate = config.lr * (config.lr_end / config.lr) ** progress
    else:
        rate = config.lr_end + (config.lr - config.lr_end) * 0.5 * (1 + math.cos(math.pi * progress))
    return rate * min(1.0, (step + 1) / max(1, config.warmup))


def make_optimizer(
    modules: Iterable[torch.nn.Module], config: RunConfig, device: torch.device
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, fused on a GPU; no decay of biases and norms; SiamFC's factor has its own rate."""
    named = [(name, p) for module in modules for name, p in module.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for _, p in named if p.dim() > 1], "weight_decay": config.weight_decay, "rate": 1.0},
        {"params": [p for n, p in named if p.dim() <= 1 and n != "scale"], "weight_decay": 0.0, "rate": 1.0},
    ]
    factor = [p for name, p in named if name == "scale"]
    if factor and isinstance(config, SiamFCConfig):
        # The factor is about 0.001 and its gradient about 1000 times a weight's: these rates give it the steps of its
        # logarithm.
        rate = config.scale**2 if config.optimizer == "sgd" else config.scale
        groups.append({"params": factor, "weight_decay": 0.0, "rate": rate})
    fused = device.type == "cuda" or None
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, fused=fused)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), fused=fused)


def moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential average for AveragedModel; the decay rises from 0.1, so that the first weights soon lose
    weight."""

    def update(averages: list[torch.Tensor], values: list[torch.Tensor], count: torch.Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)

    return update
