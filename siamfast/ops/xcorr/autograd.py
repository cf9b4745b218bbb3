"""The raw ops of the correlations: registration, choice of the backend, autograd. Arguments are already checked."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch._decomp import register_decomposition

from siamfast.ops import dispatch, library
from siamfast.ops.layout import layout_of
from siamfast.ops.xcorr import cpp, eager, onnx, reference, triton
from siamfast.ops.xcorr.call import DepthwiseCall, XcorrCall


def _decomposed(op: Any, into: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Gives PyTorch's exporter operators for an op. Without a "meta" beside them, a graph of sizes that vary would take
    them for the shape of the result too, which takes seconds."""
    register_decomposition([op])(into)
    register_decomposition([op], type="meta")(fake)


def _implementation(x: torch.Tensor) -> ModuleType | None:
    """The module that serves x, all with the same four functions; None for the reference."""
    chosen = dispatch.pick(x.device, x.dtype)
    return {"triton": triton, "cpp": cpp, "torch": eager}.get(chosen)


def full(call: XcorrCall) -> torch.Tensor:
    """The op `siamfast::xcorr`, with a graph if one is needed."""
    return _xcorr(*call.tensors, *call.numbers)


def depthwise(call: DepthwiseCall) -> torch.Tensor:
    """The op `siamfast::xcorr_depthwise`, with a graph if one is needed."""
    return _depthwise(*call)


# -------------------------------------------------------------------------------------------------- full: registration
def by_reference(call: XcorrCall) -> torch.Tensor:
    """The specification, from the raw op's arguments."""
    numbers = call.numbers
    response = reference.xcorr(
        call.z,
        call.x,
        scale=numbers.scale_constant if call.scale is None else call.scale,
        bias=numbers.bias_constant if call.bias is None else call.bias,
        padding=(numbers.pad_y, numbers.pad_x),
        pairing="all" if numbers.all_pairs else "cycle",
    )
    return response.to(call.x.dtype)


def _xcorr_kernel(*flat: Any) -> torch.Tensor:
    call = XcorrCall.of(*flat)
    chosen = _implementation(call.x)
    return chosen.full_forward(call) if chosen else by_reference(call)


def _xcorr_fake(*flat: Any) -> Any:
    call = XcorrCall.of(*flat)
    return call.x.new_empty(call.x.shape[0], call.outputs, *call.response_size)


def _xcorr_reference_backward(grad: torch.Tensor, *flat: Any) -> tuple[torch.Tensor, ...]:
    *arguments, needs = flat
    call = XcorrCall.of(*arguments)
    return library.reference_gradients(
        lambda z, x, scale, bias: by_reference(XcorrCall(z, x, scale, bias, call.numbers)), call.tensors, grad, needs
    )


def _xcorr_backward_kernel(grad: torch.Tensor, *flat: Any) -> tuple[torch.Tensor, ...]:
    *arguments, needs = flat
    call = XcorrCall.of(*arguments)
    chosen = _implementation(call.x)
    gradients = chosen.full_backward(grad, call, needs) if chosen else _xcorr_reference_backward(grad, *flat)
    # Empty tensors of their own for those that are not needed: an op's outputs must not alias one another.
    return tuple(g if need else grad.new_empty(0) for g, need in zip(gradients, needs, strict=True))


def _xcorr_backward_fake(grad: Any, *flat: Any) -> tuple[torch.Tensor, ...]:
    *arguments, needs = flat
    z, x, scale, bias, _ = XcorrCall.of(*arguments)
    made = (
        z.new_empty(z.shape),
        torch.empty_like(x, memory_format=layout_of(x)),
        None if scale is None else scale.new_empty(scale.shape),
        None if bias is None else bias.new_empty(bias.shape),
    )
    return tuple(m if need and m is not None else grad.new_empty(0) for m, need in zip(made, needs, strict=True))


_OPTIONS = (
    "Tensor? scale, Tensor? bias, float scale_constant, float bias_constant, int pad_y, int pad_x, bool all_pairs"
)
_xcorr_op = library.register(f"xcorr(Tensor z, Tensor x, {_OPTIONS}) -> Tensor", _xcorr_kernel, _xcorr_fake)
_xcorr_backward_op = library.register(
    f"xcorr_backward(Tensor grad, Tensor z, Tensor x, {_OPTIONS}, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)",
    _xcorr_backward_kernel,
    _xcorr_backward_fake,
)
_xcorr_backward = library.with_autograd(_xcorr_backward_op, _xcorr_reference_backward)
_decomposed(_xcorr_op, onnx.full, _xcorr_fake)


class _XCorr(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, x: torch.Tensor, scale: Any, bias: Any, *options: Any) -> torch.Tensor:
        ctx.save_for_backward(z, x, scale, bias)
        ctx.options = options
        return _xcorr(z, x, scale, bias, *options)  # without gradients here

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needs = list(ctx.needs_input_grad[:4])
        gradients = _xcorr_backward(grads[0], *ctx.saved_tensors, *ctx.options, needs)
        return (*(g if need else None for g, need in zip(gradients, needs, strict=True)), *[None] * len(ctx.options))


_xcorr = library.with_autograd(_xcorr_op, _XCorr.apply, lambda *flat: by_reference(XcorrCall.of(*flat)))


# --------------------------------------------------------------------------------------------- depthwise: registration
def depthwise_by_reference(call: DepthwiseCall) -> torch.Tensor:
    """The specification, from the raw op's arguments."""
    return reference.xcorr_depthwise(call.z, call.x, padding=(call.pad_y, call.pad_x))


def _depthwise_kernel(*flat: Any) -> torch.Tensor:
    call = DepthwiseCall(*flat)
    chosen = _implementation(call.x)
    if chosen:
        return chosen.depthwise_forward(call)
    return depthwise_by_reference(call).contiguous(memory_format=layout_of(call.x))


def _depthwise_fake(*flat: Any) -> Any:
    call = DepthwiseCall(*flat)
    layout = layout_of(call.x)
    return torch.empty(call.response_shape, dtype=call.x.dtype, device=call.x.device, memory_format=layout)


def _depthwise_reference_backward(grad: torch.Tensor, *flat: Any) -> tuple[torch.Tensor, ...]:
    *arguments, needs = flat
    call = DepthwiseCall(*arguments)
    return library.reference_gradients(
        lambda z, x: depthwise_by_reference(call._replace(z=z, x=x)), (call.z, call.x), grad, needs
    )


def _depthwise_backward_kernel(grad: torch.Tensor, *flat: Any) -> tuple[torch.Tensor, ...]:
    *arguments, needs = flat
    call = DepthwiseCall(*arguments)
    chosen = _implementation(call.x)
    if chosen:
        return chosen.depthwise_backward(grad, call, needs)
    dz, dx = _depthwise_reference_backward(grad, *flat)
    return dz.contiguous(), dx.contiguous(memory_format=layout_of(call.x)) if dx.dim() == 4 else dx


def _depthwise_backward_fake(grad: Any, *flat: Any) -> tuple[torch.Tensor, ...]:
    *arguments, needs = flat
    z, x, _, _ = DepthwiseCall(*arguments)
    return (
        z.new_empty(z.shape) if needs[0] else grad.new_empty(0),
        torch.empty_like(x, memory_format=layout_of(x)) if needs[1] else grad.new_empty(0),
    )


_depthwise_op = library.register(
    "xcorr_depthwise(Tensor z, Tensor x, int pad_y, int pad_x) -> Tensor", _depthwise_kernel, _depthwise_fake
)
_depthwise_backward_op = library.register(
    "xcorr_depthwise_backward(Tensor grad, Tensor z, Tensor x, int pad_y, int pad_x, bool[] needs) -> (Tensor, Tensor)",
    _depthwise_backward_kernel,
    _depthwise_backward_fake,
)
_depthwise_backward = library.with_autograd(_depthwise_backward_op, _depthwise_reference_backward)
_decomposed(_depthwise_op, onnx.depthwise, _depthwise_fake)


class _XCorrDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, x: torch.Tensor, pad_y: int, pad_x: int) -> torch.Tensor:
        ctx.save_for_backward(z, x)
        ctx.padding = pad_y, pad_x
        return _depthwise(z, x, pad_y, pad_x)  # without gradients here

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needs = list(ctx.needs_input_grad[:2])
        gradients = _depthwise_backward(grads[0], *ctx.saved_tensors, *ctx.padding, needs)
        return (*(g if need else None for g, need in zip(gradients, needs, strict=True)), None, None)


_depthwise = library.with_autograd(
    _depthwise_op, _XCorrDepthwise.apply, lambda *flat: depthwise_by_reference(DepthwiseCall(*flat))
)
