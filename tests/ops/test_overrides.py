"""Each op is a torch function: what overrides those is asked, with every argument of the call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import siamfast
from siamfast.ops.augment import no_draws

Op = Callable[..., Any]
OPS: tuple[Op, ...] = (
    siamfast.xcorr,
    siamfast.xcorr_depthwise,
    siamfast.xcorr_pixelwise,
    siamfast.balanced_logistic_loss,
    siamfast.xcorr_balanced_loss,
    siamfast.correspondence_warp,
    siamfast.crop_and_resize,
    siamfast.augment,
)
every_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
TENSORS = {  # the arguments of each op that may be tensors
    "xcorr": ("z", "x", "scale", "bias"),
    "xcorr_depthwise": ("z", "x"),
    "xcorr_pixelwise": ("z", "x"),
    "balanced_logistic_loss": ("scores", "labels", "centers"),
    "xcorr_balanced_loss": ("z", "x", "scale", "bias", "labels", "centers"),
    "correspondence_warp": ("query", "reference", "values", "key_bias"),
    "crop_and_resize": ("image", "centers", "sizes", "fill"),
    "augment": ("images", "draws"),
}


class Asked:
    """Stands for a tensor, and answers for the op."""

    @classmethod
    def __torch_function__(cls, func: Op, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func, args, kwargs or {}


class Tagged(torch.Tensor):
    """A tensor of a kind of its own, as torchvision's."""


@every_op
def test_an_override_gets_the_whole_call(op: Op) -> None:
    given = {name: object() for name in inspect.signature(op).parameters}
    for name in TENSORS[op.__name__]:
        func, args, kwargs = op(**(given | {name: (asked := Asked())}))
        assert func is op
        assert inspect.signature(op).bind(*args, **kwargs).arguments == given | {name: asked}


def _calls() -> dict[str, tuple[Op, tuple[torch.Tensor, ...]]]:
    z, x = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 9, 9)
    images = torch.randint(256, (2, 3, 20, 24), dtype=torch.uint8)
    return {
        "xcorr": (lambda z, x: siamfast.xcorr(z, x, scale=0.5), (z, x)),
        "warp": (siamfast.correspondence_warp, (x, x.flip(0), x[:, :2])),
        "loss": (siamfast.balanced_logistic_loss, (x[:, :1],)),
        "crop": (lambda image: siamfast.crop_and_resize(image, [[3, 5]], [12], 8), (images[0],)),
        "augment": (lambda images: siamfast.augment(images, no_draws(2, (20, 24))), (images,)),
    }


@pytest.mark.parametrize("name", _calls())
def test_tensors_of_a_kind_of_their_own_and_modes(name: str) -> None:
    op, tensors = _calls()[name]
    expected, seen = op(*tensors), []

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func: Op, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    torch.testing.assert_close(op(*(t.as_subclass(Tagged) for t in tensors)).as_subclass(torch.Tensor), expected)
    with Mode():
        torch.testing.assert_close(op(*tensors), expected)
    assert set(OPS) & set(seen)


@pytest.mark.parametrize("op", [siamfast.xcorr_depthwise, siamfast.xcorr_pixelwise, siamfast.xcorr])
def test_fx_traces_an_op_by_itself(op: Op) -> None:
    z, x = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 9, 9)
    graph = torch.fx.symbolic_trace(op)
    assert [node.target for node in graph.graph.nodes if node.op == "call_function"] == [op]
    torch.testing.assert_close(graph(z, x), op(z, x), rtol=0, atol=0)
