"""Every op goes through the transforms of torch.func, with autograd's own gradients and without a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, jacrev, jvp, vjp, vmap

from tests.ops.contract import CASES, Case

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def _quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "There is a performance drop")
        yield
    assert "performance drop" not in capfd.readouterr().err  # PyTorch's C++ side writes it where no warning can go


def _weighted(case: Case, *tensors: torch.Tensor) -> torch.Tensor:
    """A number that depends on every element of the output differently."""
    output = case.call(*tensors)
    return (output * torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype).view(output.shape)).sum()


def _places(case: Case) -> tuple[int, ...]:
    return tuple(range(len(case.shapes)))


@every_case
def test_grad_equals_autograds(case: Case) -> None:
    inputs = case.inputs()
    expected = torch.autograd.grad(_weighted(case, *inputs), inputs, allow_unused=True, materialize_grads=True)
    plain = tuple(i.detach() for i in inputs)
    gradients = grad(lambda *t: _weighted(case, *t), argnums=_places(case))(*plain)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@every_case
def test_vmap_and_per_sample_gradients_equal_a_loop(case: Case) -> None:
    samples = [case.inputs(seed=seed, grad=False) for seed in range(3)]
    stacked = [torch.stack(tensors) for tensors in zip(*samples, strict=True)]
    gradient = grad(lambda *t: _weighted(case, *t))
    for function in (case.call, gradient):
        results = vmap(function)(*stacked)
        for number, sample in enumerate(samples):
            torch.testing.assert_close(results[number], function(*sample), rtol=1e-8, atol=1e-10)


@every_case
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jvp_and_grad_agree(case: Case) -> None:
    inputs, directions = case.inputs(grad=False), case.inputs(seed=1, grad=False)
    _, slope = jvp(lambda *t: _weighted(case, *t), inputs, directions)
    gradients = grad(lambda *t: _weighted(case, *t), argnums=_places(case))(*inputs)
    expected = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    torch.testing.assert_close(slope, expected, rtol=1e-8, atol=1e-10)


def _compiled_transforms(case: Case) -> dict[str, Callable[..., Any]]:
    numbers = _places(case)

    def weighted(*tensors: torch.Tensor) -> torch.Tensor:
        return _weighted(case, *tensors)

    def slope(*tensors: torch.Tensor) -> torch.Tensor:
        return jvp(weighted, tensors, tensors)[1]

    def pulled(*tensors: torch.Tensor) -> Any:
        value, back = vjp(weighted, *tensors)
        return back(torch.ones_like(value) * 2)

    return {
        "grad": grad(weighted, argnums=numbers),
        "vjp": pulled,
        "jacrev": jacrev(case.call),
        "jvp": slope,
        "vmap": vmap(case.call),
        "per-sample": vmap(grad(weighted)),
        "second": grad(lambda *t: grad(weighted)(*t).square().sum()),
    }


@every_case
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_transforms_equal_eager_ones(case: Case) -> None:
    """Three of each op, drawn anew in each run: a compilation takes a second."""
    transforms = _compiled_transforms(case)
    for transform in np.random.default_rng().choice(list(transforms), 3, replace=False).tolist():
        inputs = case.inputs(grad=False)
        if transform in ("vmap", "per-sample"):
            inputs = tuple(torch.stack((t, t.flip(-1))) for t in inputs)
        torch._dynamo.reset()
        expected = transforms[transform](*inputs)
        found = torch.compile(transforms[transform], backend="aot_eager")(*inputs)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10, msg=lambda m, t=transform: f"{t}: {m}")


@every_case
def test_all_outputs_of_the_raw_ops_equal_a_loop(case: Case) -> None:
    samples = [case.raw(case.inputs(seed=seed, grad=False)) for seed in range(2)]
    for first, second in zip(*samples, strict=True):
        op, (given, *rest) = first
        if "_backward" in op.name():  # the gradients of transforms are plain PyTorch's
            continue
        results = vmap(lambda t, op=op, rest=rest: op(t, *rest))(torch.stack((given, second[1][0])))
        for number, tensor in enumerate((given, second[1][0])):
            expected = op(tensor, *rest)
            found = tuple(r[number] for r in results) if isinstance(results, tuple) else results[number]
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@every_case
def test_dual_numbers_keep_their_tangents(case: Case) -> None:
    inputs = case.inputs(grad=False)
    tangents = [torch.randn_like(tensor) for tensor in inputs]
    _, expected = jvp(case.call, tuple(inputs), tuple(tangents))
    with forward_ad.dual_level():
        output = case.call(*map(forward_ad.make_dual, inputs, tangents))
        torch.testing.assert_close(forward_ad.unpack_dual(output).tangent, expected)
