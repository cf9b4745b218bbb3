"""Label propagation is what TimeCycle, CRW, DINO and UVC do at test time, written here in plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import siamfast

HEIGHT, WIDTH, FRAMES, CLASSES = 9, 17, 12, 3
Oracle = Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]]


def _video(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(T, C, H, W) features, (K, H, W) labels of the first frame."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(FRAMES, 6, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    labels = torch.rand(CLASSES, HEIGHT, WIDTH, generator=generator, dtype=torch.float64).softmax(0)
    return features, labels


def _cells(features: torch.Tensor) -> torch.Tensor:
    """(C, H, W) -> (H * W, C)."""
    return features.flatten(1).T


def _unit(features: torch.Tensor) -> torch.Tensor:
    return features / features.norm(dim=-1, keepdim=True)


def _distance(strict_circle: bool) -> torch.Tensor:
    """(H * W, H * W): Euclid's, or the larger of |dy| and |dx|."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    dy, dx = ((v.flatten()[:, None] - v.flatten()).abs().double() for v in (y, x))
    return (dy**2 + dx**2).sqrt() if strict_circle else torch.maximum(dy, dx)


def crw(features: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """Frame 0 and the 20 before, copies of frame 0 where there are none; products of unit features over 0.05; cells at
    a distance of 12 or more are left out, except in the first entry; softmax over the 10 largest."""
    maps, far = [labels], _distance(True) >= 12
    for t in range(1, FRAMES):
        context = [0] + [max(0, s) for s in range(t - 20, t)]
        scores = []
        for place, s in enumerate(context):
            logits = _unit(_cells(features[t])) @ _unit(_cells(features[s])).T / 0.05
            scores.append(logits if place == 0 else logits.masked_fill(far, -1e10))
        best, cells = torch.cat(scores, 1).topk(10, dim=1)
        values = torch.cat([_cells(maps[s]) for s in context])
        mixed = (best.softmax(1)[..., None] * values[cells]).sum(1)
        maps.append(mixed.T.unflatten(1, (HEIGHT, WIDTH)))
    return maps


def dino(features: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """Frame 0 and up to 7 before, without repeats; exp of products over 0.1, times a mask of the 25 x 25 square; all
    but the 5 largest become 0; divided by the sum."""
    maps, near = [labels], _distance(False) <= 12
    for t in range(1, FRAMES):
        context = [0, *range(max(1, t - 7), t)]
        weights = torch.cat(
            [(_unit(_cells(features[t])) @ _unit(_cells(features[s])).T / 0.1).exp() * near for s in context], 1
        )
        fifth = weights.topk(5, dim=1).values[:, -1:]
        weights = torch.where(weights < fifth, 0.0, weights)
        values = torch.cat([_cells(maps[s]) for s in context])
        maps.append((weights / weights.sum(1, keepdim=True) @ values).T.unflatten(1, (HEIGHT, WIDTH)))
    return maps


def _by_frame(
    features: torch.Tensor, labels: torch.Tensor, scale: float, unit: bool, padded: bool
) -> list[torch.Tensor]:
    """Frame 0 and the 7 before; per frame a softmax over its cells, of which the 5 largest weights are kept unscaled;
    the frames' results are averaged."""
    maps = [labels]
    for t in range(1, FRAMES):
        context = [0] + [max(0, s) for s in range(t - 7, t)] if padded else [0, *range(max(1, t - 7), t)]
        total = torch.zeros(HEIGHT * WIDTH, CLASSES, dtype=torch.float64)
        for s in context:
            now, then = _cells(features[t]), _cells(features[s])
            products = _unit(now) @ _unit(then).T if unit else now @ then.T
            best, cells = (products * scale).softmax(1).topk(5, dim=1)
            total += (best[..., None] * _cells(maps[s])[cells]).sum(1)
        maps.append((total / len(context)).T.unflatten(1, (HEIGHT, WIDTH)))
    return maps


def timecycle(features: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """Cosine times sqrt(512)."""
    return _by_frame(features, labels, math.sqrt(512), unit=True, padded=True)


def uvc(features: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """Unscaled products."""
    return _by_frame(features, labels, 1.0, unit=False, padded=False)


def colour(features: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """Frame 0 and the 3 before; one softmax of the products over 0.5, over all cells of all of them."""
    maps = [labels]
    for t in range(1, FRAMES):
        context = [0, *range(max(1, t - 3), t)]
        scores = torch.cat([_cells(features[t]) @ _cells(features[s]).T / 0.5 for s in context], 1)
        values = torch.cat([_cells(maps[s]) for s in context])
        maps.append((scores.softmax(1) @ values).T.unflatten(1, (HEIGHT, WIDTH)))
    return maps


@pytest.mark.parametrize("oracle", [timecycle, crw, dino, uvc, colour])
@pytest.mark.parametrize("seed", [0, 1])
def test_each_preset_equals_its_projects_propagation(oracle: Oracle, seed: int) -> None:
    features, labels = _video(seed)
    maps = list(siamfast.propagate_labels(features, labels, preset=oracle.__name__))
    torch.testing.assert_close(maps, oracle(features, labels))


@pytest.mark.parametrize("oracle", [timecycle, crw, dino, uvc, colour])
def test_float32_equals_float64(oracle: Oracle) -> None:
    """The C++ kernel; over 11 frames, each of which builds on those before."""
    features, labels = _video(2)
    maps = siamfast.propagate_labels(features.float(), labels.float(), preset=oracle.__name__)
    for ours, theirs in zip(maps, oracle(features, labels), strict=True):
        assert float((ours - theirs).abs().max()) < 1e-4


@pytest.mark.parametrize("preset", ["timecycle", "crw", "dino", "uvc"])
def test_propagation_follows_a_moving_square(preset: str) -> None:
    """Unique features that move one cell a frame carry the labels with them under every project's settings."""
    codes = torch.nn.functional.normalize(torch.randn(64, 20, 20, dtype=torch.float64), dim=0) * 30
    video = [codes.roll(t, 2) for t in range(5)]
    labels = torch.zeros(1, 20, 20, dtype=torch.float64)
    labels[0, 5:10, 5:10] = 1
    for t, propagated in enumerate(siamfast.propagate_labels(video, labels, preset=preset)):
        assert ((propagated > 0.5) == (labels.roll(t, 2) > 0.5)).double().mean() > 0.98, t


def test_the_context_is_the_first_frame_and_the_last_few() -> None:
    """A feature that only frame 0 has still matches after `context` frames without it."""
    shown, hidden = torch.eye(16).view(16, 4, 4), torch.zeros(16, 4, 4)
    labels = torch.rand(1, 4, 4)
    frames = [shown, *[hidden] * 4, shown]
    *_, last = siamfast.propagate_labels(frames, labels, preset="dino", radius=None, topk=1, context=2)
    torch.testing.assert_close(last, labels)
