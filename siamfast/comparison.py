"""Compare our ops with a PyTorch user's own code on this machine: check the values, then time both interleaved."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

import siamfast
from siamfast.io.files import replacing

PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Case:
    """Two ways to compute the same values; each callable returns the tensor to compare."""

    name: str
    peer_name: str
    ours: Callable[[], torch.Tensor]
    peer: Callable[[], torch.Tensor]
    tolerance: float  # limit of the largest absolute difference, relative to the largest value


@dataclass(frozen=True)
class Row:
    """Medians in milliseconds."""

    name: str
    peer_name: str
    ours_ms: float
    peer_ms: float

    @property
    def ratio(self) -> float:
        return self.peer_ms / self.ours_ms


def interleaved(runs: dict[str, Callable[[], Any]], seconds: float, turns: int = 1000) -> dict[str, list[float]]:
    """Seconds of every call, in turn, until each has had `seconds` or `turns` turns; at least 3 turns.

    Changing load affects all contenders alike, and so does the cache state left by another one, because each turn has
    its own order. CUDA work is waited for.
    """
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    times: dict[str, list[float]] = {name: [] for name in runs}
    order, orders = list(runs), random.Random(0)
    for run in runs.values():
        run()
    while min(map(len, times.values())) < 3 or (
        min(map(sum, times.values())) < seconds and max(map(len, times.values())) < turns
    ):
        orders.shuffle(order)
        for name in order:
            wait()
            start = time.perf_counter()
            runs[name]()
            wait()
            times[name].append(time.perf_counter() - start)
    return times


def compare(case: Case, *, seconds: float = 0.4) -> Row:
    """Check that both compute the same, then time them A B A B ... for about `seconds` each.

    Raises:
        ValueError: the values differ by more than the case allows; then no time is reported.
    """
    ours, peer = case.ours(), case.peer()
    difference = float((ours.double() - peer.double()).abs().max() / peer.double().abs().max().clamp_min(1e-30))
    if not difference <= case.tolerance:
        raise ValueError(f"{case.name}: differs from {case.peer_name} by {difference:.3g} of the largest value")
    times = interleaved({"ours": case.ours, "peer": case.peer}, seconds)
    ours_s, peer_s = (statistics.median(times[name]) for name in ("ours", "peer"))
    return Row(case.name, case.peer_name, ours_s * 1e3, peer_s * 1e3)


def _with_gradients(run: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Forward and backward: the gradients of all inputs, as one vector."""
    leaves = [t.clone().requires_grad_() for t in inputs]

    def both() -> torch.Tensor:
        output = run(*leaves)
        return torch.cat([g.flatten() for g in torch.autograd.grad(output.square().sum(), leaves)])

    return both


def _grouped(z: torch.Tensor, x: torch.Tensor, groups: int) -> torch.Tensor:
    """A grouped convolution with the batch folded into its channels, as trackers write every correlation."""
    folded = x.reshape(1, -1, *x.shape[2:])
    kernels = z.reshape(groups, -1, *z.shape[2:])
    return F.conv2d(folded, kernels, groups=groups).reshape(x.shape[0], -1, *(a - b + 1 for a, b in _sides(x, z)))


def _sides(x: torch.Tensor, z: torch.Tensor) -> list[tuple[int, int]]:
    return list(zip(x.shape[2:], z.shape[2:], strict=True))


def _eager_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """SiamFC's balanced loss as trackers write it: a label map, a weight map, a cross-entropy."""
    positive, negative = labels == 1, labels == 0
    weights = 0.5 * positive / positive.sum((-2, -1), keepdim=True)
    weights = weights + 0.5 * negative / negative.sum((-2, -1), keepdim=True)
    losses = F.binary_cross_entropy_with_logits(scores, labels.expand_as(scores), reduction="none")
    return (losses * weights).sum((-2, -1)).mean().reshape(1)


def _materialised(query: torch.Tensor, reference: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The softmax affinity as one N x N matrix."""
    q, r = F.normalize(query.flatten(2), dim=1), F.normalize(reference.flatten(2), dim=1)
    affinity = torch.softmax(torch.einsum("ncr,ncq->nrq", r, q) / 0.07, dim=1)
    return torch.einsum("nkr,nrq->nkq", values.flatten(2), affinity).view(*values.shape[:2], *query.shape[2:])


def _padded_crop(frame: np.ndarray, center: tuple[float, float], size: int, out: int) -> np.ndarray:
    """The crop with OpenCV: mean, border, slice, resize."""
    mean = cv2.mean(frame)[:3]
    x0, y0 = (round(c - (size - 1) / 2) for c in center)
    x1, y1 = x0 + size, y0 + size
    pad = max(0, -x0, -y0, x1 - frame.shape[1], y1 - frame.shape[0])
    if pad:
        frame = cv2.copyMakeBorder(frame, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=mean)
    return cv2.resize(frame[y0 + pad : y1 + pad, x0 + pad : x1 + pad], (out, out), interpolation=cv2.INTER_LINEAR)


def cases() -> list[Case]:
    """The ops at the shapes of real trackers, float32."""
    torch.manual_seed(0)
    z, x = torch.randn(8, 256, 6, 6), torch.randn(8, 256, 22, 22)
    zd, xd = torch.randn(8, 256, 5, 5), torch.randn(8, 256, 29, 29)
    scores, labels = torch.randn(32, 1, 17, 17), siamfast.logistic_labels(17, stride=8, r_pos=16, r_neg=0)
    query, reference, values = torch.randn(1, 256, 32, 32), torch.randn(1, 256, 32, 32), torch.rand(1, 3, 32, 32)
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    center, size = (700.0, 90.0), 301
    grouped_full = "grouped conv2d"
    return [
        Case(
            "xcorr 256ch 6² on 22², B=8",
            grouped_full,
            lambda: siamfast.xcorr(z, x),
            lambda: _grouped(z, x, 8),
            1e-4,
        ),
        Case(
            "xcorr 256ch 6² on 22², B=8, forward + backward",
            grouped_full,
            _with_gradients(siamfast.xcorr, z, x),
            _with_gradients(lambda z, x: _grouped(z, x, 8), z, x),
            1e-4,
        ),
        Case(
            "xcorr_depthwise 256ch 5² on 29², B=8, forward + backward",
            grouped_full,
            _with_gradients(siamfast.xcorr_depthwise, zd, xd),
            _with_gradients(lambda z, x: _grouped(z, x, 8 * 256), zd, xd),
            1e-4,
        ),
        Case(
            "balanced_logistic_loss 17², B=32, forward + backward",
            "eager PyTorch",
            _with_gradients(lambda s: siamfast.balanced_logistic_loss(s, r_pos=16, r_neg=0), scores),
            _with_gradients(lambda s: _eager_loss(s, labels), scores),
            1e-4,
        ),
        Case(
            "correspondence_warp 256ch 32², K=3",
            "materialised softmax",
            lambda: siamfast.correspondence_warp(query, reference, values),
            lambda: _materialised(query, reference, values),
            1e-4,
        ),
        Case(
            "crop_and_resize 720p at the border -> 255²",
            "OpenCV pad + resize",
            lambda: torch.from_numpy(siamfast.crop_and_resize(frame, center, size, 255, rounding="siamfc-pytorch")),
            lambda: torch.from_numpy(_padded_crop(frame, center, size, 255)),
            1.5 / 255,
        ),
    ]


def table(rows: list[Row]) -> str:
    """The rows as aligned text, our time beside that of the usual code."""
    lines = [f"{'op':<58}{'ours ms':>11}{'other ms':>11}{'ratio':>8}  other"]
    lines += [f"{r.name:<58}{r.ours_ms:>11.3f}{r.peer_ms:>11.3f}{r.ratio:>7.3g}x  {r.peer_name}" for r in rows]
    return "\n".join(lines)


def chart(rows: list[Row], file: Path) -> None:
    """Draw one bar per row: the peer's time over ours. The file's ending, one of PICTURES, sets the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.5 * len(rows) + 1), layout="constrained")
    axes = figure.add_subplot()
    places, ratios = range(len(rows))[::-1], [row.ratio for row in rows]
    # Bars start at 1: an op slower than its peer extends to the left.
    colors = ["#0072b2" if ratio >= 1 else "#e69f00" for ratio in ratios]  # Okabe and Ito's blue and orange
    axes.barh(places, [ratio - 1 for ratio in ratios], left=1, color=colors)
    for place, ratio in zip(places, ratios, strict=True):
        axes.annotate(f" {ratio:.3g}x ", (max(ratio, 1), place), va="center", ha="left")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    low, high = min(0.8, *ratios) / 1.6, max(2.0, *ratios) * 1.5
    axes.set_xlim(low, high)
    ticks = [base * 10**power for power in range(-3, 4) for base in (1, 2, 5) if low < base * 10**power < high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_yticks(places, [f"{row.name.strip()}\nagainst {row.peer_name}" for row in rows], fontsize=8)
    axes.set_xlabel("times faster than the usual code, named below each op (log scale)")
    with replacing(file) as unfinished:
        figure.savefig(unfinished, format=file.suffix[1:], dpi=110)
