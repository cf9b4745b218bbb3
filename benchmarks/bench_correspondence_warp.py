"""Speed and memory of the correspondence warp beside a stored affinity, PyTorch's attention, masks, gathers and top-k.

pytest benchmarks/bench_correspondence_warp.py [--quick] [--results FILE]
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F

import siamfast
from benchmarks.harness import OURS, Case, Made, Run, require_close
from siamfast.ops.correspondence_warp.reference import allowed_keys

TEMPERATURE, RADIUS, TOP = 0.07, 12, 10
Call = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Shape(NamedTuple):
    batch: int
    channels: int
    height: int
    width: int
    values: int
    frames: int = 1

    @property
    def name(self) -> str:
        frames = f", T={self.frames}" if self.frames > 1 else ""
        return f"{self.batch}x{self.channels}x{self.height}x{self.width}, K={self.values}{frames}"


SMALL = Shape(1, 512, 32, 32, 10)
LARGE = Shape(1, 512, 60, 108, 5)
SHAPES = (SMALL, Shape(8, 512, 25, 25, 1), Shape(4, 256, 40, 40, 3), Shape(1, 256, 30, 54, 5, 8), LARGE)
OPTIONS = {"plain": {}, f"radius {RADIUS}": {"radius": RADIUS}, f"top {TOP}": {"topk": TOP}}


# --------------------------------------------------------------------------------------------------------------- peers
def _affinity(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Logits (N, keys, queries); keys: (N, T, C, H, W)."""
    q, r = F.normalize(query.flatten(2), dim=1), F.normalize(keys.transpose(1, 2).flatten(2), dim=1)
    return r.transpose(1, 2) @ q / TEMPERATURE


def _warped(weights: torch.Tensor, values: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    return (values.transpose(1, 2).flatten(2) @ weights).unflatten(2, query.shape[2:])


def materialized(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The softmax affinity as one N x N matrix."""
    return _warped(torch.softmax(_affinity(query, keys), dim=1), values, query)


def chunked(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The same for a few rows of queries at a time."""
    rows = [materialized(part, keys, values) for part in query.split(4, dim=2)]
    return torch.cat(rows, 2)


def attention(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """scaled_dot_product_attention, the values padded to the features' width: its fast path needs equal widths."""
    q = F.normalize(query.flatten(2), dim=1).transpose(1, 2).unsqueeze(1)
    r = F.normalize(keys.transpose(1, 2).flatten(2), dim=1).transpose(1, 2).unsqueeze(1)
    v = values.transpose(1, 2).flatten(2).transpose(1, 2)
    v = F.pad(v, (0, query.shape[1] - v.shape[2])).unsqueeze(1)
    out = F.scaled_dot_product_attention(q, r, v, scale=1 / TEMPERATURE)[:, 0, :, : values.shape[2]]
    return out.transpose(1, 2).unflatten(2, query.shape[2:])


@functools.cache
def _window(grid: tuple[int, int], frames: int, device: torch.device) -> torch.Tensor:
    """(queries, keys) bool, made once, as DINO makes it."""
    return allowed_keys(grid, (frames, *grid), RADIUS, "square", (), device)


def masked(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """DINO's way: the whole affinity, all but the window masked out."""
    grid = (query.shape[2], query.shape[3])
    near = _window(grid, keys.shape[1], query.device)
    return _warped(torch.softmax(_affinity(query, keys).masked_fill(~near.T, -torch.inf), dim=1), values, query)


def rows(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """One row of queries at a time on the rows of its window: the fastest plain PyTorch."""
    q, r = F.normalize(query, dim=1), F.normalize(keys, dim=2)
    height, width = query.shape[2:]
    x = torch.arange(width, device=query.device)
    far = ((x[:, None] - x).abs() > RADIUS)[:, None, None]
    warped = []
    for y in range(height):
        near = slice(max(0, y - RADIUS), y + RADIUS + 1)
        some = r[:, :, :, near]
        logits = q[:, :, y].transpose(1, 2) @ some.transpose(1, 2).flatten(2) / TEMPERATURE
        logits = logits.unflatten(2, (*some.shape[1:2], *some.shape[3:])).masked_fill(far, -torch.inf)
        weights = torch.softmax(logits.flatten(2), dim=2)
        warped.append(values[:, :, :, near].transpose(1, 2).flatten(2) @ weights.transpose(1, 2))
    return torch.stack(warped, 2)


def largest(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """CRW's way: the whole affinity, its top k, their softmax."""
    kept, places = _affinity(query, keys).topk(TOP, dim=1)
    weights, flat = torch.softmax(kept, dim=1), values.transpose(1, 2).flatten(2)
    chosen = flat[:, :, None].expand(-1, -1, TOP, -1)
    index = places[:, None].expand(-1, flat.shape[1], -1, -1)
    return (torch.gather(chosen, 3, index) * weights[:, None]).sum(2).unflatten(2, query.shape[2:])


LEAST_VALUES = 16  # the fewest channels of values that flex_attention's GPU kernels take


def flex(window: bool) -> Call:
    """PyTorch's compiled flex_attention, its window a block mask made beforehand; on the CPU it has no backward."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    attend, masks = torch.compile(flex_attention), {}

    def call(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        height, width = query.shape[2:]

        def near(b: torch.Tensor, h: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
            cell = j % (height * width)
            return ((i // width - cell // width).abs() <= RADIUS) & ((i % width - cell % width).abs() <= RADIUS)

        sizes = height * width, keys.shape[1] * height * width
        if window and sizes not in masks:
            masks[sizes] = create_block_mask(near, None, None, *sizes, device=query.device)
        q, r, v = (
            t.flatten(2).transpose(1, 2).unsqueeze(1) for t in (query, keys.transpose(1, 2), values.transpose(1, 2))
        )
        q, r = F.normalize(q, dim=3), F.normalize(r, dim=3)
        v = F.pad(v, (0, max(0, LEAST_VALUES - v.shape[3])))
        output = attend(q, r, v, scale=1 / TEMPERATURE, block_mask=masks[sizes] if window else None)
        return output[:, 0, :, : values.shape[2]].transpose(1, 2).unflatten(2, (height, width))  # type: ignore[union-attr, index]

    return call


PEERS: dict[str, dict[str, Call]] = {
    "plain": {"materialised": materialized, "attention": attention, "chunked": chunked},
    f"radius {RADIUS}": {"rows": rows, "mask": masked},
    f"top {TOP}": {"materialised top k": largest},
}


# ------------------------------------------------------------------------------------------------------------- running
def make(shape: Shape, mode: str, direction: str, device: str, compiled: bool) -> Made:
    generator = torch.Generator().manual_seed(0)
    n, c, h, w, k, t = shape
    sizes = ((n, c, h, w), (n, t, c, h, w), (n, t, k, h, w), (n, k, h, w))
    *inputs, grad = (torch.randn(size, generator=generator).to(device) for size in sizes)

    def ours(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return siamfast.correspondence_warp(query, keys, values, temperature=TEMPERATURE, **OPTIONS[mode])  # type: ignore[arg-type]

    calls: dict[str, Call] = {OURS: ours} | PEERS[mode]
    if compiled and direction == "forward" and not mode.startswith("top"):
        calls["compiled"] = flex(mode != "plain")

    def outputs_and_gradients(name: str) -> tuple[torch.Tensor, ...]:
        leaves = [t.detach().requires_grad_() for t in inputs]
        out = calls[name](*leaves)
        return (out, *torch.autograd.grad(out, leaves, grad))

    def forward(name: str) -> torch.Tensor:
        with torch.no_grad():
            return calls[name](*inputs)

    with siamfast.backend("torch"):  # in float64, some rows of queries at a time
        leaves = [t.double().requires_grad_() for t in inputs]
        with torch.set_grad_enabled(direction != "forward"):
            out = ours(*leaves)
        truth = (out, *torch.autograd.grad(out, leaves, grad.double())) if direction != "forward" else (out,)

    def check(name: str) -> None:
        results = outputs_and_gradients(name) if direction != "forward" else (forward(name),)
        for name_of_value, f, true in zip(("value", "dquery", "dreference", "dvalues"), results, truth, strict=False):
            # Logits of up to 1 / 0.07 amplify float32 roundings of the normalized products, which may also change
            # which of two keys is the tenth: then two values of nearly equal, small weights change places.
            # On a GPU all contenders' products are TF32 or float16: 2^-11 of a logit of up to 14, which makes another
            # key the tenth of a few queries in a hundred.
            if device != "cpu" and mode == f"top {TOP}":
                off = float(((f.double() - true).abs() > 0.05 * true.abs().max()).double().mean())
                if off > 0.1:
                    raise AssertionError(f"{shape.name}: {name_of_value} of {name}: {off:.1%} of the elements are off")
                continue
            allowed = 0.1 if mode == f"top {TOP}" else 2e-4 if device == "cpu" else 2e-2
            require_close(f"{shape.name}: {name_of_value} of {name}", f, true, allowed)

    way = forward if direction == "forward" else outputs_and_gradients
    runs: dict[str, Run] = {name: functools.partial(way, name) for name in calls}
    return Made(runs, check)


def cases(quick: bool = False) -> Iterator[Case]:
    for shape in SHAPES[:1] if quick else SHAPES:
        cells = shape.height * shape.width
        for mode in PEERS:
            if (mode != "plain" and shape not in (SMALL, LARGE)) or (mode.startswith("radius") and shape == SMALL):
                continue
            keys = shape.frames * cells if not mode.startswith("radius") else shape.frames * (2 * RADIUS + 1) ** 2
            # Of a top k, gradients need the chosen keys alone.
            back = TOP if mode.startswith("top") else keys
            for direction, factor, pairs in (("forward", 1, keys), ("forward+backward", 3, keys + 2 * back)):
                yield Case(
                    "correspondence_warp",
                    f"{shape.name}{'' if mode == 'plain' else f', {mode}'}",
                    direction,
                    {"features": tuple(shape)},
                    (OURS, *PEERS[mode]),
                    functools.partial(make, shape, mode, direction),
                    bytes=factor * 4 * shape.batch * cells * (1 + shape.frames) * (shape.channels + shape.values),
                    flop=2 * shape.batch * cells * pairs * (shape.channels + shape.values),
                    compilable=direction == "forward" and not mode.startswith("top"),
                )


def test_correspondence_warp(timed: None) -> None:
    """Timed by the fixture, its values checked first."""
