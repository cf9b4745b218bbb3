"""What PyTorch does to functions works on the ops: jit.trace, fx, meta tensors, FLOP counts, the profiler."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.flop_counter import FlopCounterMode

import siamfast
from siamfast.ops.augment import no_draws

Op = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _warp(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return siamfast.correspondence_warp(x, x, x[:, :2], radius=3, topk=4)


def _xcorr(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return siamfast.xcorr(z, x, scale=0.1, bias=0.5, padding=1)


def _loss(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return siamfast.balanced_logistic_loss(siamfast.xcorr(z, x, scale=0.1))


def _fused(z: torch.Tensor, x: torch.Tensor) -> Any:
    return siamfast.xcorr_balanced_loss(z, x, scale=0.1)


OPS: dict[str, Op] = {
    "xcorr": _xcorr,
    "depthwise": siamfast.xcorr_depthwise,
    "pixelwise": siamfast.xcorr_pixelwise,
    "loss": _loss,
    "fused": _fused,
    "warp": _warp,
}


class Head(torch.nn.Module):
    """An op over features that a convolution makes."""

    def __init__(self, op: Op) -> None:
        super().__init__()
        self.op, self.conv = op, torch.nn.Conv2d(8, 8, 1)

    def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.op(self.conv(z), self.conv(x))


def _features(device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 8, 4, 4), (2, 8, 12, 12)
    z, x = (torch.randn(shape, generator=generator).to(device) for shape in shapes)
    return z, x


@pytest.mark.parametrize("name", OPS)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_a_trace_is_saved_loaded_and_differentiated(name: str) -> None:
    head, (z, x) = Head(OPS[name]), _features()
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(head, (z, x)), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    assert "siamfast::" not in str(loaded.inlined_graph)  # it runs where siamfast is not installed
    gradients = []
    for module in (head, loaded):
        leaf = x.clone().requires_grad_()
        out = module(z, leaf)
        out.sum().backward()
        gradients.append((out.detach(), leaf.grad))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)  # another order of sums


@pytest.mark.parametrize("name", OPS)
def test_fx_records_one_call(name: str) -> None:
    head, (z, x) = Head(OPS[name]), _features()
    graph = torch.fx.symbolic_trace(head)
    targets = [
        node.target.__name__ for node in graph.graph.nodes if node.op == "call_function" and callable(node.target)
    ]
    assert any(hasattr(siamfast, target) for target in targets)
    torch.testing.assert_close(graph(z, x), head(z, x), rtol=0, atol=0)


def test_what_is_no_tensor_is_still_an_error() -> None:
    with pytest.raises(TypeError, match="z: got int, expected"):
        siamfast.xcorr(3, torch.ones(1, 1, 2, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OPS)
def test_meta_tensors_give_shapes_and_gradients_too(name: str) -> None:
    z, x = _features("meta")
    x.requires_grad_()
    out = OPS[name](z, x)
    assert out.device.type == "meta"
    assert out.shape == OPS[name](*_features()).shape
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


def _crop(image: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    return siamfast.crop_and_resize(image, centers, 30.0, 16)


# op, its tensors, and others to call a trace with
IMAGES: dict[str, tuple[Op, Any, Any]] = {
    "crop": (
        _crop,
        (torch.rand(3, 40, 40) * 255, torch.tensor([[20.0, 10.0]])),
        (torch.rand(3, 40, 40) * 255, torch.tensor([[5.0, 30.0]])),
    ),
    "augment": (
        siamfast.augment,
        (torch.full((2, 3, 20, 24), 9, dtype=torch.uint8), no_draws(2, (20, 24))),
        (torch.arange(2 * 3 * 20 * 24).remainder(251).byte().view(2, 3, 20, 24), no_draws(2, (15, 20))),
    ),
}
every_image_op = pytest.mark.parametrize("name", IMAGES)


@every_image_op
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_a_trace_keeps_places_and_draws_as_arguments(name: str) -> None:
    op, first, second = IMAGES[name]
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(op, first), file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(*second), op(*second), rtol=1e-5, atol=1e-3)


@every_image_op
def test_tensors_without_values_give_shapes(name: str) -> None:
    op, tensors, _ = IMAGES[name]
    shape = op(*tensors).shape
    assert op(*(t.to("meta") for t in tensors)).shape == shape
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(t) for t in tensors]
        assert op(*fakes).shape == shape
    outside = op(*fakes)
    assert (type(outside).__name__, outside.shape) == ("FakeTensor", shape)


@every_image_op
def test_vmap_over_places_and_draws_equals_a_loop(name: str) -> None:
    op, (_, first), (images, second) = IMAGES[name]
    several = torch.stack([first, second, first])
    expected = torch.stack([op(images, each) for each in several])
    found = torch.func.vmap(op, in_dims=(None, 0))(images, several)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)


def test_what_a_trace_would_freeze_is_refused() -> None:
    image, centers = torch.rand(3, 40, 40), torch.tensor([[20.0, 10.0]])
    with pytest.raises(ValueError, match=r"antialias: got True in a torch.jit.trace"):
        torch.jit.trace(lambda c: siamfast.crop_and_resize(image, c, 30.0, 16, antialias=True), (centers,))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_a_trace_under_autocast_sums_in_float32() -> None:
    z, x = torch.randn(2, 64, 6, 6), torch.randn(2, 64, 12, 12)
    with torch.autocast("cpu", torch.bfloat16):
        expected, trace = siamfast.xcorr(z, x), torch.jit.trace(siamfast.xcorr, (z, x))
    found = trace(z, x)  # outside: autocast acts on the operations of a trace when they run, too
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=1e-3)  # one rounding each of the same sums


@pytest.mark.parametrize("name", ["centers", "sizes", "fill"])
def test_places_without_values_are_for_images_without_any(name: str) -> None:
    given = {"centers": torch.tensor([[5.0, 6.0]]), "sizes": torch.tensor([17.0]), "fill": torch.ones(3)}
    given[name] = given[name].to("meta")
    with pytest.raises(ValueError, match=f"{name}: got a tensor on meta, without values"):
        siamfast.crop_and_resize(torch.rand(3, 20, 20), given["centers"], given["sizes"], 4, fill=given["fill"])


def test_draws_that_hold_their_numbers_elsewhere() -> None:
    """TwoTensor's address is 0, which C++ read."""
    images, table = torch.zeros(2, 3, 20, 24, dtype=torch.uint8), no_draws(2, (20, 24))
    with pytest.raises(TypeError, match="draws: got TwoTensor, whose numbers cannot be read"):
        siamfast.augment(images, TwoTensor(table, table))
    with pytest.raises(TypeError, match="draws: got Tensor, whose numbers cannot be read"):
        siamfast.augment(images, torch._efficientzerotensor((2, 14)))


def test_an_array_within_a_fake_mode_is_refused() -> None:
    with FakeTensorMode(), pytest.raises(TypeError, match="image: got a numpy array within"):
        siamfast.crop_and_resize(np.zeros((20, 20, 3), np.uint8), [5, 5], 7.0, 4)


def test_flops_are_those_of_the_products() -> None:
    z, x = (t.requires_grad_() for t in _features())
    with FlopCounterMode(display=False) as counter:
        siamfast.xcorr(z, x).sum().backward()
    forward = 2 * (2 * 9 * 9) * 8 * 16
    assert counter.get_total_flops() == 3 * forward  # two gradients beside it
    with FlopCounterMode(display=False) as counter:
        siamfast.xcorr_depthwise(z, x).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (2 * 8 * 9 * 9) * 16
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        siamfast.correspondence_warp(x, x, x[:, :3])
    assert counter.get_total_flops() == 2 * 2 * 144 * 144 * (8 + 3)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        siamfast.correspondence_warp(x, x, x[:, :3], radius=1, topk=2)
    near = (12 + 2 * 11) ** 2  # each of 12 rows sees itself and its neighbors, and so do columns
    assert counter.get_total_flops() == 2 * 2 * (near * 8 + 144 * 2 * 3)


def test_flops_are_counted_whichever_is_imported_first() -> None:
    program = """
import {first}, {second}, torch
from torch.utils.flop_counter import FlopCounterMode
with FlopCounterMode(display=False) as counter:
    siamfast.xcorr_depthwise(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3))
print(counter.get_total_flops())
"""
    for first, second in (("siamfast", "torch.utils.flop_counter"), ("torch.utils.flop_counter", "siamfast")):
        text = program.format(first=first, second=second)
        ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == "32"


def test_the_profiler_names_the_ops() -> None:
    z, x = _features()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        siamfast.xcorr(z, x)
        siamfast.xcorr_depthwise(z, x)
    names = {event.key for event in profile.key_averages()}
    assert {"siamfast::xcorr", "siamfast::xcorr_depthwise"} <= names


@pytest.mark.parametrize("op", [siamfast.xcorr, siamfast.xcorr_depthwise])
def test_a_trace_serves_another_batch_or_refuses_it(op: Op) -> None:
    """The specification's loop over samples, traced, dropped the samples beyond those of the trace."""
    z, x = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 8, 8)
    trace = torch.jit.trace(op, (z, x))
    one = torch.jit.trace(op, (z[:1], x))
    z, x = torch.randn(3, 4, 3, 3), torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(one(z[:1], x), op(z[:1], x), rtol=1e-4, atol=1e-4)
    if op is siamfast.xcorr:
        torch.testing.assert_close(trace(z, x), op(z, x), rtol=1e-4, atol=1e-4)
        return
    with pytest.raises(RuntimeError, match="invalid for input"):
        trace(z, x)
