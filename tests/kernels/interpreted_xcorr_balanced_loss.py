"""Run by test_xcorr_balanced_loss.py with TRITON_INTERPRET=1: the fused kernel and its autograd against the two ops."""

from __future__ import annotations

import itertools
from typing import Any

import torch

import siamfast
from siamfast.ops.balanced_logistic_loss import check_labels, check_options
from siamfast.ops.xcorr import make_call
from siamfast.ops.xcorr_balanced_loss import triton as fused

# Relative to the largest value: the interpreter has no TF32, so float32 rounds as float32; 16-bit types round the slope
# that meets z and x, and the composition also rounds the response between the ops.
ALLOWED = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
LABEL_VALUES = torch.tensor([-1.0, 0.0, 0.3, 1.0])


def gradients(
    loss: torch.Tensor, leaves: list[torch.Tensor], weight: torch.Tensor, **options: bool
) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, leaves, weight, **options))


def close(name: str, result: torch.Tensor, expected: torch.Tensor, allowed: float, size: float = 0.0) -> None:
    """size: the magnitude of the terms of a sum that may cancel."""
    expected = expected.detach().double()
    difference = (result.detach().double() - expected).abs().max()
    assert difference <= allowed * (expected.abs().max() + size) + 1e-12, f"{name}: off by {difference}"


def check(
    z: torch.Tensor, x: torch.Tensor, factor: Any, offset: Any, padding: Any, labels: Any, centers: Any, **kw: Any
) -> None:
    """Loss, response and all gradients; the gradients a second time; a second derivative."""
    leaves = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in (z, x)]
    numbers = [t.clone().requires_grad_() if isinstance(t, torch.Tensor) else t for t in (factor, offset)]
    leaves += [t for t in numbers if isinstance(t, torch.Tensor)]
    arguments = make_call(leaves[0], leaves[1], *numbers, padding)
    options = check_options(**{"stride": 8, "r_neg": 0, "metric": "l1", "neutral": "half"} | kw)
    cells = len(x), 1, *(a + 2 * p - b + 1 for a, b, p in zip(x.shape[2:], z.shape[2:], padding, strict=True))
    given = check_labels(cells, x.device, x.dtype, labels, centers)
    assert fused.fits(z, x, *padding, *given, options), (z.shape, x.shape)
    loss, scores = fused.loss_and_scores(arguments, *given, options)

    exact = [t.detach().double().requires_grad_() for t in leaves]
    parts = iter(exact[2:])
    scaled = [next(parts) if isinstance(t, torch.Tensor) else t for t in (factor, offset)]
    with siamfast.backend("torch"):
        response = siamfast.xcorr(*exact[:2], scale=scaled[0], bias=scaled[1], padding=padding)
        centers64 = None if centers is None else centers.double()
        truth = siamfast.balanced_logistic_loss(response, labels, centers=centers64, **kw)
    allowed = ALLOWED[x.dtype]
    close("loss", loss, truth, allowed)
    close("scores", scores, response, allowed)
    weight = torch.rand_like(loss) + 0.5
    expected = gradients(truth, exact, weight.double(), retain_graph=True, create_graph=True)
    first = [g.clone() for g in gradients(loss, leaves, weight, retain_graph=True)]
    with siamfast.backend("torch"):
        second = gradients(loss, leaves, 2 * weight, retain_graph=True, create_graph=True)
    # Slopes of both signs add up to those of scale and bias.
    names = "zx" + "s" * isinstance(factor, torch.Tensor) + "b" * isinstance(offset, torch.Tensor)
    sizes = {"s": float(response.detach().abs().max()) * 10, "b": 1.0}
    for name, t, a, b in zip(names, expected, first, second, strict=True):
        close(f"d{name}", a, t, 2 * allowed, sizes.get(name, 0.0))
        close(f"d{name} again", b / 2, t, 2 * allowed, sizes.get(name, 0.0))
    if x.dtype == torch.float32:
        with siamfast.backend("torch"):
            twice = gradients(sum(g.square().sum() for g in second), leaves[:2], torch.tensor(1.0))
        true_twice = gradients(sum(g.square().sum() for g in expected), exact[:2], torch.tensor(4.0).double())
        for name, t, f in zip("zx", true_twice, twice, strict=True):
            close(f"d2{name}", f, t, 1e-4)


def main() -> None:
    torch.manual_seed(0)
    done = 0
    sizes = (
        # N, C, template, search, padding
        (2, 24, (6, 6), (22, 22), (0, 0)),
        (3, 5, (3, 5), (9, 8), (1, 0)),
        (1, 17, (1, 4), (5, 12), (0, 2)),
        (2, 40, (4, 4), (20, 20), (0, 0)),
    )
    kinds = itertools.cycle(("made", "centers", "map", "maps"))
    dtypes = itertools.cycle((torch.float32, torch.float32, torch.bfloat16, torch.float32, torch.float32))
    rest = itertools.cycle(itertools.product(("mean", "none", "sum"), (0, 1, 2), ("sample", "batch", "cells"), (0, 1)))
    for _ in range(5):
        for n, c, template, search, padding in sizes:
            kind, dtype, (reduction, train, balance, last) = next(kinds), next(dtypes), next(rest)
            z, x = torch.randn(n, c, *template).to(dtype), torch.randn(n, c, *search).to(dtype)
            if last:
                x = x.contiguous(memory_format=torch.channels_last)
            shape = tuple(a + 2 * p - b + 1 for a, b, p in zip(search, template, padding, strict=True))
            labels = centers = None
            if kind == "centers":
                centers = torch.rand(n, 2) * min(shape)
            elif kind != "made":
                labels = LABEL_VALUES[torch.randint(0, 4, shape if kind == "map" else (n, *shape))]
            if kind in ("centers", "maps"):
                balance = "sample"
            check(
                z,
                x,
                0.1 if train == 0 else torch.tensor([0.1]),
                None if train < 2 else torch.tensor(-0.4),
                padding,
                labels,
                centers,
                r_pos=8,
                balance=balance,
                reduction=reduction,
                neg_weight=0.7,
            )
            done += 1
    # In float16 the gradients of a mean over many cells would vanish before GradScaler's factor arrives.
    z, x = torch.randn(2, 8, 6, 6).half(), torch.randn(2, 8, 22, 22).half()
    options = check_options(8, 16, 0, "l1", "half", "sample")
    assert not fused.fits(z, x, 0, 0, None, None, options)
    assert fused.fits(z.bfloat16(), x.bfloat16(), 0, 0, None, None, options)
    print(f"{done} cases")


if __name__ == "__main__":
    main()
