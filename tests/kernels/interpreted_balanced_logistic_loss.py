"""Run by test_balanced_logistic_loss.py with TRITON_INTERPRET=1: the kernel against the float64 reference."""

from __future__ import annotations

import itertools

import torch
from siamfast.kernels.balanced_logistic_loss import launch

import siamfast
from siamfast.ops.balanced_logistic_loss import check_options
from siamfast.ops.balanced_logistic_loss.call import Options

EPS = 2.0**-23
LABEL_VALUES = torch.tensor([-1.0, 0.0, 0.3, 1.0])


def forward(
    scores: torch.Tensor, labels: torch.Tensor | None, centers: torch.Tensor | None, options: Options
) -> tuple[torch.Tensor, torch.Tensor]:
    return launch.forward(scores=scores, labels=labels, centers=centers, options=options)


def check(scores: torch.Tensor, labels: torch.Tensor | None, centers: torch.Tensor | None, **options: object) -> None:
    loss, slope = forward(scores, labels, centers, check_options(**{"neg_weight": 0.7} | options))  # type: ignore[arg-type]
    given = labels
    if given is None:  # distances in float32, as in the kernel
        made = {name: options[name] for name in ("stride", "r_pos", "r_neg", "metric", "neutral")}
        given = siamfast.logistic_labels(tuple(scores.shape[-2:]), centers=centers, **made)  # type: ignore[arg-type]
    leaf = scores.double().reshape(len(scores), *scores.shape[-2:]).requires_grad_()
    weighing = {name: options[name] for name in ("neutral", "balance", "reduction")}
    given = given[0] if given.dim() == 3 and given.shape[0] == 1 and len(scores) != 1 else given
    with siamfast.backend("reference"):
        truth = siamfast.balanced_logistic_loss(leaf, given.double(), neg_weight=0.7, **weighing)  # type: ignore[arg-type]
    (true_slope,) = torch.autograd.grad(truth.sum(), leaf)
    # exp in hardware is within 2 ulp of a number that may be 100 times smaller than its exponent's rounding: 64 EPS.
    torch.testing.assert_close(loss.double(), truth.detach(), rtol=64 * EPS, atol=1e-13)
    torch.testing.assert_close(slope.double().view(leaf.shape), true_slope, rtol=64 * EPS, atol=EPS)


def main() -> None:
    torch.manual_seed(0)
    done = 0
    sizes = (
        (3, 1, 17, 17),
        (5, 5, 9),
        (1, 1, 1, 1),
        (2, 70, 61),
        (120, 1, 25, 25),
    )  # the last two: many tiles, many programs
    combinations = itertools.product(sizes, ("made", "centers", "map", "maps"), ("sample", "batch", "cells"))
    dtypes = itertools.cycle((torch.float32, torch.bfloat16, torch.float16))
    neutrals = itertools.cycle(("half", "ignore", "half-weighted", "half"))
    rest = itertools.cycle(itertools.product(("l1", "l2"), ("mean", "sum", "none"), ((16.0, 0.0), (8.0, 24.0))))
    for size, kind, balance in combinations:
        metric, reduction, (r_pos, r_neg) = next(rest)
        n, height, width = size[0], *size[-2:]
        labels = centers = None
        if kind == "centers":
            centers = torch.rand(n, 2) * width
        elif kind != "made":
            labels = LABEL_VALUES[torch.randint(0, 4, (1 if kind == "map" else n, height, width))]
        check(
            (torch.randn(size) * 5).to(next(dtypes)),
            labels,
            centers,
            stride=8.0,
            r_pos=r_pos,
            r_neg=r_neg,
            metric=metric,
            neutral=next(neutrals),
            balance=balance,
            reduction=reduction,
        )
        done += 1
    scores = torch.zeros(2, 5, 7)
    scores[0, 2, 3] = float("nan")
    labels = torch.zeros(1, 5, 7)
    options = check_options(8, 16, 0, "l1", "half", reduction="none")
    assert forward(scores, labels, None, options)[0].isnan().tolist() == [True, False]
    labels[0, 2, 3] = -1
    assert forward(scores, labels, None, options)[0].isfinite().all()
    extreme = torch.tensor([1e4, -1e4]).view(2, 1, 1)
    loss, slope = forward(extreme, torch.ones(1, 1, 1), None, options)
    assert loss.tolist() == [0.0, 5e3]
    assert slope.flatten().tolist() == [0.0, -0.5]
    empty, nothing = forward(torch.zeros(0, 5, 7), None, None, check_options(8, 16, 0, "l1", "half"))
    assert empty == 0
    assert nothing.shape == (0, 5, 7)
    print(f"{done + 4} cases")


if __name__ == "__main__":
    main()
