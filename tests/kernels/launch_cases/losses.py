"""Calls of the loss, and of the correlation and the loss in one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import siamfast
from benchmarks import bench_xcorr
from siamfast.ops.balanced_logistic_loss import check_options
from siamfast.ops.xcorr import make_call
from siamfast.ops.xcorr_balanced_loss import triton as joint
from tests.kernels.launch_cases.case import FLOATS, LAYOUTS, Case, backward, zeros


def joint_loss(
    z: torch.Tensor,
    x: torch.Tensor,
    padding: int = 0,
    centers: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    scaled: bool = True,
    **options: Any,
) -> None:
    """Correlation and loss in one autograd.Function, with backward."""
    number = torch.ones((), requires_grad=True)
    made = make_call(z, x, number if scaled else 1.0, number.detach() if scaled else None, padding)
    chosen = check_options(8, 16, 0, options.get("metric", "l1"), "half", options.get("balance", "sample"))
    loss, _ = joint.loss_and_scores(made, labels, centers, chosen)
    backward(loss, z, x)


def loss(scores: torch.Tensor, labels: torch.Tensor | None, centers: torch.Tensor | None, **options: Any) -> None:
    backward(siamfast.balanced_logistic_loss(scores, labels, centers=centers, **options), scores)


def losses() -> Iterator[Case]:
    for batch in (1, 8, 32, 64, 256):
        yield Case("loss", f"17x17, B={batch}", lambda n=batch: loss(zeros((n, 1, 17, 17), torch.float32), None, None))
    for shape in bench_xcorr.SHAPES:
        if shape.kind == "full" and shape.z[:2] == shape.x[:2]:
            for dtype, tf32 in ((torch.float32, True), (torch.float32, False), (torch.bfloat16, True)):
                yield Case(
                    "joint loss",
                    f"{shape.name}, {'' if tf32 else 'exact '}{dtype}",
                    lambda s=shape, d=dtype: joint_loss(zeros(s.z, d), zeros(s.x, d)),
                    tf32,
                )


def random_loss(rng: np.random.Generator) -> Case:
    samples, dtype = int(rng.choice([1, 2, 7, 100])), FLOATS[rng.integers(3)]
    size = int(rng.integers(1, 120)), int(rng.integers(1, 120))
    options = {
        "balance": str(rng.choice(["sample", "batch", "cells"])),
        "metric": str(rng.choice(["l1", "l2"])),
        "reduction": str(rng.choice(["mean", "sum", "none"])),
        "neutral": str(rng.choice(["half", "ignore", "half-weighted"])),
    }
    kind = int(rng.integers(4))
    labels = torch.zeros(size) if kind == 1 else torch.zeros(samples, 1, *size) if kind == 2 else None
    centers = torch.zeros(samples, 2) if kind == 3 else None
    layout = str(rng.choice(LAYOUTS))
    name = f"({samples}, 1, {size}) {layout} {dtype}, {('made', 'one map', 'maps', 'centers')[kind]}, {options}"
    return Case("loss", name, lambda: loss(zeros((samples, 1, *size), dtype, layout), labels, centers, **options))


def random_joint_loss(rng: np.random.Generator) -> Case:
    samples, dtype, tf32 = int(rng.choice([1, 2, 8])), FLOATS[rng.integers(2)], bool(rng.random() < 0.5)
    channels = int(rng.choice([1, 3, 64, 256, 300]))
    z = samples, channels, *(int(v) for v in rng.integers(1, 8, 2))
    x = samples, channels, *(int(side + rng.integers(0, 24)) for side in z[2:])
    padding, layout, other = int(rng.choice([0, 0, 1])), *(str(v) for v in rng.choice(LAYOUTS, 2))
    kind, options = int(rng.integers(3)), {"metric": str(rng.choice(["l1", "l2"]))}
    cells = [side + 2 * padding - k + 1 for side, k in zip(x[2:], z[2:], strict=True)]
    labels = torch.zeros(1, *cells) if kind == 1 else None
    centers = torch.zeros(samples, 2) if kind == 2 else None
    if centers is None:
        options["balance"] = str(rng.choice(["sample", "batch", "cells"]))
    name = f"{z} {layout}, {x} {other}, {dtype}, tf32={tf32}, {padding=}, {('made', 'a map', 'centers')[kind]}"

    def call() -> None:
        joint_loss(zeros(z, dtype, layout), zeros(x, dtype, other), padding, centers, labels, kind != 1, **options)

    return Case("joint loss", name, call, tf32)
