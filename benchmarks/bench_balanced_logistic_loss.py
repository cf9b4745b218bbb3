"""Speed of the balanced logistic loss beside the eager composition that trackers write.

pytest benchmarks/bench_balanced_logistic_loss.py [--quick] [--compiled] [--results FILE]
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
import torch.nn.functional as F

import siamfast
from benchmarks.harness import OURS, Case, Made, Run, require_close

SIDE = 17


def labels_of_the_seed(batch: int) -> torch.Tensor:
    """(batch, 1, 17, 17): 1 within 16 px of the middle by city-block distance at stride 8, 0 beyond."""
    away = (torch.arange(SIDE) - SIDE // 2).abs() * 8
    return ((away[:, None] + away[None, :]) <= 16).float().expand(batch, 1, SIDE, SIDE)


def eager(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A label map, a weight map, a cross-entropy: positives and negatives share one half each."""
    positive, negative = (labels == 1).float(), (labels == 0).float()
    weights = 0.5 * positive / positive.sum((-2, -1), keepdim=True)
    weights = weights + 0.5 * negative / negative.sum((-2, -1), keepdim=True)
    losses = F.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    return (losses * weights).sum((-2, -1)).mean()


def ours(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return siamfast.balanced_logistic_loss(scores, stride=8, r_pos=16, r_neg=0, metric="l1")


def make(batch: int, device: str, compiled: bool) -> Made:
    scores = torch.randn(batch, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    labels = labels_of_the_seed(batch).to(device).contiguous()
    calls = {OURS: ours, "eager": eager}
    if compiled:
        calls["compiled"] = torch.compile(eager, dynamic=False)

    def both(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        loss = calls[name](scores, labels)
        return loss, torch.autograd.grad(loss, scores)[0]

    exact = scores.detach().double().requires_grad_()
    loss = eager(exact, labels.double())
    truth = loss, torch.autograd.grad(loss, exact)[0]

    def check(name: str) -> None:
        for what, found, true in zip(("loss", "gradient"), both(name), truth, strict=True):
            require_close(f"{what} of {name}", found, true, 1e-5)  # float32 sums of 289 terms

    runs: dict[str, Run] = {name: functools.partial(both, name) for name in calls}
    return Made(runs, check)


def cases(quick: bool = False) -> Iterator[Case]:
    for batch in (8,) if quick else (8, 32, 64):
        cells = batch * SIDE * SIDE
        yield Case(
            "balanced_logistic_loss", f"17x17, B={batch}", "forward+backward", {"scores": (batch, 1, SIDE, SIDE)},
            (OURS, "eager"), functools.partial(make, batch), bytes=8 * cells, flop=20 * cells, compilable=True,
        )  # fmt: skip


def test_balanced_logistic_loss(timed: None) -> None:
    """Timed by the fixture, its values checked first."""
