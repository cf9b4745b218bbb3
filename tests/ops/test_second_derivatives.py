"""Gradients with create_graph=True, of inputs that depend on one another, are those without it; so are second ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import siamfast

Formula = Callable[[torch.Tensor], torch.Tensor]


def _warp(w: torch.Tensor) -> torch.Tensor:
    values, entropy = siamfast.correspondence_warp(w[1:], w[:1], w[:1, :2] * 2, returns=("values", "entropy"))
    return (values**2).sum() + (values.mean() * entropy).sum()


def _fused(w: torch.Tensor) -> torch.Tensor:
    loss: Any = siamfast.xcorr_balanced_loss(w[:, :, 2:5, 2:5], w, scale=w.mean(), bias=w.sum().view(1), r_pos=8)
    return loss**2


FORMULAS: dict[str, Formula] = {
    "xcorr": lambda w: (siamfast.xcorr(w[:, :, 2:5, 2:5], w, scale=w.mean(), bias=w.amax(), padding=1) ** 2).sum(),
    "depthwise": lambda w: siamfast.xcorr_depthwise(w[:, :, 2:5, 2:5], w).sum(),
    "pixelwise": lambda w: (siamfast.xcorr_pixelwise(w[:, :, 2:5, 2:5], w) ** 2).sum(),
    "loss": lambda w: siamfast.balanced_logistic_loss(w[:, :1] * w[:, 1:2]) * w.mean(),
    "fused": _fused,
    "warp": _warp,
    "crop": lambda w: (siamfast.crop_and_resize(w[0], [1.0, 2.0], 8.0, 5, fill="mean") ** 2).sum(),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_that_depend_on_one_another(name: str, dtype: torch.dtype) -> None:
    formula = FORMULAS[name]
    w = (torch.rand(2, 4, 8, 8) - 0.4).to(dtype).requires_grad_()
    direction = torch.randn(w.shape, dtype=dtype)

    def derivatives() -> tuple[torch.Tensor, torch.Tensor]:
        (first,) = torch.autograd.grad(formula(w), w, create_graph=True)
        return first.detach(), torch.autograd.grad((first * direction).sum(), w)[0]

    first, second = derivatives()
    (plain,) = torch.autograd.grad(formula(w), w)
    with siamfast.backend("reference"):
        exact = derivatives()
    # Sums of up to 288 float32 products, in another order; float64 through the torch backend.
    allowed = 2e-4 if dtype == torch.float32 else 1e-10
    for result, expected in ((first, plain), (first, exact[0]), (second, exact[1])):
        assert float((result - expected).abs().max()) <= allowed * (1 + float(expected.abs().max()))


# All but PyTorch's own product, whose gradient is in bfloat16 there.
@pytest.mark.parametrize("name", [name for name in FORMULAS if name != "pixelwise"])
def test_a_backward_within_autocast_keeps_the_forwards_precision(name: str) -> None:
    w = (torch.rand(2, 4, 8, 8) - 0.4).requires_grad_()
    (expected,) = torch.autograd.grad(FORMULAS[name](w), w)
    result = FORMULAS[name](w)
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = torch.autograd.grad(result, w, create_graph=True)
    # Products in bfloat16 would differ by 4e-3.
    assert float((found - expected).abs().max()) <= 2e-4 * (1 + float(expected.abs().max()))


@pytest.mark.parametrize("returns", [("values",), ("values", "confidence", "entropy", "lse")])
@pytest.mark.parametrize("needed", [(0,), (2,), (0, 1, 2)])
def test_a_batch_of_gradients_of_the_warp_is_differentiable(returns: tuple[str, ...], needed: tuple[int, ...]) -> None:
    """All rows of a Jacobian at once: autograd's vmap, which allows no gradients of batches of results within."""
    given = [torch.randn(shape).double() for shape in ((1, 3, 2, 3), (1, 3, 3, 2), (1, 2, 3, 2))]

    def warped(*inputs: torch.Tensor) -> torch.Tensor:
        own = dict(zip(needed, inputs, strict=True))
        maps: Any = siamfast.correspondence_warp(*(own.get(n, t) for n, t in enumerate(given)), returns=returns)
        return torch.cat([m.flatten() for m in (maps if isinstance(maps, tuple) else (maps,))])

    inputs = tuple(given[n] for n in needed)
    together, one_by_one = (
        torch.autograd.functional.jacobian(warped, inputs, create_graph=True, vectorize=vectorize)
        for vectorize in (True, False)
    )
    for ours, expected in zip(together, one_by_one, strict=True):
        torch.testing.assert_close(ours, expected)
        assert ours.requires_grad or needed == (2,)
