"""Speed and memory of the correspondence warp beside a stored affinity and PyTorch's attention.

pytest benchmarks/bench_correspondence_warp.py [--quick] [--results FILE]
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F

import siamfast
from benchmarks.harness import OURS, Case, Made, Run, require_close

TEMPERATURE = 0.07


class Shape(NamedTuple):
    batch: int
    channels: int
    height: int
    width: int
    values: int

    @property
    def name(self) -> str:
        return f"{self.batch}x{self.channels}x{self.height}x{self.width}, K={self.values}"


SHAPES = (Shape(1, 512, 32, 32, 10), Shape(8, 512, 25, 25, 1), Shape(4, 256, 40, 40, 3))


def ours(query: torch.Tensor, reference: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return siamfast.correspondence_warp(query, reference, values, temperature=TEMPERATURE)


def materialised(query: torch.Tensor, reference: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The softmax affinity as one N x N matrix."""
    q, r = F.normalize(query.flatten(2), dim=1), F.normalize(reference.flatten(2), dim=1)
    affinity = torch.softmax(r.transpose(1, 2) @ q / TEMPERATURE, dim=1)
    return (values.flatten(2) @ affinity).view(*values.shape[:2], *query.shape[2:])


def attention(query: torch.Tensor, reference: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """scaled_dot_product_attention, the values padded to the features' width: its fast path wants them equal."""
    q, r = (F.normalize(t.flatten(2), dim=1).transpose(1, 2).unsqueeze(1) for t in (query, reference))
    v = F.pad(values.flatten(2).transpose(1, 2), (0, query.shape[1] - values.shape[1])).unsqueeze(1)
    out = F.scaled_dot_product_attention(q, r, v, scale=1 / TEMPERATURE)[:, 0, :, : values.shape[1]]
    return out.transpose(1, 2).reshape(*values.shape[:2], *query.shape[2:])


CONTENDERS = {OURS: ours, "materialised": materialised, "attention": attention}


def make(shape: Shape, direction: str, device: str, compiled: bool) -> Made:
    generator = torch.Generator().manual_seed(0)
    grid = shape.height, shape.width
    sizes = (
        (shape.batch, shape.channels, *grid),
        (shape.batch, shape.channels, *grid),
        (shape.batch, shape.values, *grid),
    )
    inputs = [torch.randn(size, generator=generator).to(device).requires_grad_() for size in sizes]
    grad = torch.randn(sizes[2], generator=generator).to(device)

    def both(name: str, leaves: list[torch.Tensor] = inputs) -> tuple[torch.Tensor, ...]:
        out = CONTENDERS[name](*leaves)
        return (out, *torch.autograd.grad(out, leaves, grad.to(out.dtype)))

    def forward(name: str) -> torch.Tensor:
        with torch.no_grad():
            return CONTENDERS[name](*inputs)

    truth = both("materialised", [t.detach().double().requires_grad_() for t in inputs])

    def check(name: str) -> None:
        for what, found, true in zip(("value", "dquery", "dreference", "dvalues"), both(name), truth, strict=True):
            # Logits of up to 1 / 0.07 amplify float32 roundings of the normalised products.
            require_close(f"{shape.name}: {what} of {name}", found, true, 2e-4)

    runs: dict[str, Run] = {n: functools.partial(forward if direction == "forward" else both, n) for n in CONTENDERS}
    return Made(runs, check)


def cases(quick: bool = False) -> Iterator[Case]:
    for shape in SHAPES[:1] if quick else SHAPES:
        cells = shape.height * shape.width
        for direction, factor in (("forward", 1), ("forward+backward", 3)):
            yield Case(
                "correspondence_warp", shape.name, direction, {"features": tuple(shape)}, tuple(CONTENDERS),
                functools.partial(make, shape, direction),
                bytes=factor * 4 * shape.batch * cells * (2 * shape.channels + 2 * shape.values),
                flop=factor * 2 * shape.batch * cells**2 * (shape.channels + shape.values),
            )  # fmt: skip


def test_correspondence_warp(timed: None) -> None:
    """Timed by the fixture, its values checked first."""
