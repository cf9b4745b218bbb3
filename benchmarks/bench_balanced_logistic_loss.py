"""Speed of the balanced logistic loss beside the eager compositions that trackers write.

pytest benchmarks/bench_balanced_logistic_loss.py [--quick] [--compiled] [--results FILE]
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import siamfast
from benchmarks.harness import OURS, Case, Made, Row, Run, require_close

SIDE = 17


def labels_of_the_first_version(batch: int) -> torch.Tensor:
    """(batch, 1, 17, 17): 1 within 16 px of the middle by city-block distance at stride 8, 0 beyond."""
    distance = (torch.arange(SIDE) - SIDE // 2).abs() * 8
    return ((distance[:, None] + distance[None, :]) <= 16).float().expand(batch, 1, SIDE, SIDE)


def eager(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A label map, a weight map, a cross-entropy: positives and negatives share one half each."""
    positive, negative = (labels == 1).float(), (labels == 0).float()
    weights = 0.5 * positive / positive.sum((-2, -1), keepdim=True)
    weights = weights + 0.5 * negative / negative.sum((-2, -1), keepdim=True)
    losses = F.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    return (losses * weights).sum((-2, -1)).mean()


def siamfc_pytorch(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """siamfc-pytorch's BalancedLoss rewritten: weights from masks over the whole batch, scaled to a sum of 1."""
    positive, negative = labels == 1, labels == 0
    weights = torch.zeros_like(scores)
    weights[positive] = 1 / positive.sum().float()
    weights[negative] = 1 / negative.sum().float()
    weights /= weights.sum()
    return F.binary_cross_entropy_with_logits(scores, labels, weights, reduction="sum")


def ours(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return siamfast.balanced_logistic_loss(scores, stride=8, r_pos=16, r_neg=0, metric="l1")


def make(batch: int, device: str, compiled: bool) -> Made:
    scores = torch.randn(batch, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    labels = labels_of_the_first_version(batch).to(device).contiguous()
    calls = {OURS: ours, "eager": eager, "siamfc-pytorch": siamfc_pytorch}
    if compiled:
        calls["compiled"] = torch.compile(eager, dynamic=False)

    def loss_and_gradient(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        loss = calls[name](scores, labels)
        return loss, torch.autograd.grad(loss, scores)[0]

    exact = scores.detach().double().requires_grad_()
    loss = eager(exact, labels.double())
    truth = loss, torch.autograd.grad(loss, exact)[0]

    def check(name: str) -> None:
        for name_of_value, result, true in zip(("loss", "gradient"), loss_and_gradient(name), truth, strict=True):
            require_close(f"{name_of_value} of {name}", result, true, 1e-5)  # float32 sums of 289 terms

    runs: dict[str, Run] = {name: functools.partial(loss_and_gradient, name) for name in calls}
    return Made(runs, check)


class _Count(TorchDispatchMode):
    """Counts ops that compute or copy, which would be kernel launches on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition("::")[2]
        self.launches += not (func.is_view or name.startswith(("empty", "new_empty", "detach", "_to_copy.alias")))
        return func(*args, **(kwargs or {}))


def launches(device: str) -> Row:
    """Launches per contender, forward and backward; our ops are one kernel each."""
    runs = make(8, device, False).runs
    counts = {}
    for name, run in runs.items():
        run()  # our op keeps the label map of its first call
        with _Count() as count:
            run()
        counts[name] = count.launches
    return {"launches": counts}


def cases(quick: bool = False) -> Iterator[Case]:
    for batch in (8,) if quick else (8, 32, 64):
        cells = batch * SIDE * SIDE
        yield Case(
            "balanced_logistic_loss",
            f"17x17, B={batch}",
            "forward+backward",
            {"scores": (batch, 1, SIDE, SIDE)},
            (OURS, "eager", "siamfc-pytorch"),
            functools.partial(make, batch),
            bytes=8 * cells,
            flop=20 * cells,
            compilable=True,
            extra=launches,
        )


def test_balanced_logistic_loss(timed: None) -> None:
    """Timed by the fixture, its values checked first."""
