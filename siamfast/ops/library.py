"""Registration of the raw ops in the torch.library namespace `siamfast`.

`Library.define/impl` per dispatch key has the least overhead (measured here: 3.3 us per call against 13 for
`custom_op`); the price is that the three arguments of `register` are written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import handle_torch_function, has_torch_function

from siamfast.ops import dispatch

LIBRARY = torch.library.Library("siamfast", "DEF")


def runs_elsewhere(*given: Any) -> bool:
    """Whether an op that reads values is asked for by an override of torch functions, as other ops are, or has a fake
    tensor outside of its mode, where values are missing and nobody says so."""
    return has_torch_function(given) or (FakeTensor in map(type, given) and not dispatch.values_unknown())


def run_elsewhere(op: Callable[..., Any], given: tuple[Any, ...], *args: Any, **kwargs: Any) -> Any:
    """What the override among `given` makes of op(*args, **kwargs), or the op in the fake tensor's mode."""
    if has_torch_function(given):
        return handle_torch_function(op, given, *args, **kwargs)
    with next(value for value in given if isinstance(value, FakeTensor)).fake_mode:
        return op(*args, **kwargs)


def register(schema: str, kernel: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Define `siamfast::<schema>`, functional, with one Python kernel for CPU and CUDA that picks the backend.

    Picking at run time, below the dispatcher, keeps the choice out of compiled graphs: `torch.compile` and
    `torch.export` have one op whatever backend serves it.
    """
    name = schema.partition("(")[0]

    def exact(*args: Any) -> Any:
        # Autocast also acts on calls inside a kernel: sums that must be in float32 would be of bfloat16 products
        # (measured: a warp's error 1.4e-2 instead of 1e-6).
        if not torch._C._is_any_autocast_enabled():
            return kernel(*args)
        with torch._C._DisableAutocast():
            return kernel(*args)

    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, exact, "CPU")
    LIBRARY.impl(name, exact, "CUDA")
    torch.library.register_fake(f"siamfast::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.siamfast, name).default


def with_autograd(op: Any, graph: Callable[..., Any], plain: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Give a raw op its autograd, and return the function that calls the op.

    It is registered, so that compiled and exported graphs have gradients, which have the op alone; the function that is
    returned comes to the same without a second way through the dispatcher.

    Args:
        op: the raw op.
        graph: serves, with the op's arguments, where a gradient is needed: the `apply` of an autograd.Function, or, of
            an op that is a backward, plain PyTorch: a Function over a kernel silently returns wrong second derivatives.
        plain: plain PyTorch, which serves the transforms of torch.func and forward derivatives; None: such a call does
            not reach the op.
    """

    def autograd(*args: Any) -> Any:
        if plain is not None and dispatch.derived():
            return plain(*args)
        if torch.is_grad_enabled() and any(isinstance(a, torch.Tensor) and a.requires_grad for a in args):
            return graph(*args)
        with torch._C._AutoDispatchBelowAutograd():
            return op(*args)

    def call(*args: Any) -> Any:
        return op(*args) if torch.compiler.is_compiling() else autograd(*args)

    name = op.name().partition("::")[2]
    LIBRARY.impl(name, autograd, "Autograd")
    if plain is not None:
        LIBRARY.impl(name, plain, "FuncTorchBatchedDecomposition")  # of vmap
    return call


@contextmanager
def autograd_enabled() -> Iterator[None]:
    """Enable autograd inside a kernel, where the dispatcher has switched it off."""
    key = torch._C.DispatchKey.AutogradFunctionality
    with torch._C._SetExcludeDispatchKeyGuard(key, False), torch.enable_grad():
        yield


def reference_gradients(
    formula: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]],
    inputs: tuple[torch.Tensor | None, ...],
    grad: torch.Tensor | tuple[torch.Tensor, ...],
    needs: list[bool],
) -> tuple[torch.Tensor, ...]:
    """The gradients of `formula(*inputs)`, a tensor or several, for the inputs that `needs` marks, by autograd through
    the reference; grad: the slopes of its results.

    They are differentiable again if `grad` or an input is. This also works inside a kernel, where the dispatcher has
    switched autograd off. Gradients that are not needed are empty tensors, because an op returns only tensors.
    """
    again = torch.is_grad_enabled()
    slopes = (grad,) if isinstance(grad, torch.Tensor) else grad

    def leaf(t: torch.Tensor) -> torch.Tensor:
        # An alias, since the inputs may depend on one another, as a template that is cut from the search does, and
        # `grad` on them: by the input itself these paths would count a second time.
        return torch.ops.aten.alias(t) if again and t.requires_grad else t.detach().requires_grad_()

    with torch._C._DisableAutocast(), autograd_enabled():  # a backward within autocast has the forward's precision
        sources = [leaf(t) if need and t is not None else t for t, need in zip(inputs, needs, strict=True)]
        leaves = [t for t, need in zip(sources, needs, strict=True) if need and t is not None]
        gradients: Iterator[torch.Tensor] = iter(())
        if leaves:
            results = formula(*sources)
            pairs = zip((results,) if isinstance(results, torch.Tensor) else results, slopes, strict=True)
            sloped = [(result, slope) for result, slope in pairs if result.requires_grad]
            outputs, given = zip(*sloped, strict=True)
            gradients = iter(torch.autograd.grad(outputs, leaves, given, create_graph=again, materialize_grads=True))
    return tuple(next(gradients) if need else slopes[0].new_empty(0) for need in needs)


def autocast_enabled(device_type: str) -> bool:
    """Whether autocast acts on tensors of this kind; on "meta" it never does, and PyTorch refuses the question."""
    return device_type != "meta" and torch.is_autocast_enabled(device_type)


def autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The autocast rule of ops that follow convolution: under autocast, floats go to its dtype (float64 stays)."""
    # The first question is a flag; the device's name alone takes 0.3 us.
    if not torch._C._is_any_autocast_enabled() or not autocast_enabled(device_type := tensors[0].device.type):
        return tensors
    dtype = torch.get_autocast_dtype(device_type)
    return tuple(t.to(dtype) if t.is_floating_point() and t.dtype != torch.float64 else t for t in tensors)
