"""The raw ops under the correlations: registration, choice of the backend, autograd. Arguments are checked by then."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch._decomp import register_decomposition

from siamfast.ops import dispatch, library
from siamfast.ops.xcorr import cpp, eager, onnx, reference, triton
from siamfast.ops.xcorr.call import Numbers


def _implementation(x: torch.Tensor) -> ModuleType | None:
    """The module that serves x, all with the same four functions; None for the reference."""
    chosen = dispatch.pick(x.device, x.dtype)
    return {"triton": triton, "cpp": cpp, "torch": eager}.get(chosen)


def _needs_grad(*tensors: torch.Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def full(
    z: torch.Tensor,
    x: torch.Tensor,
    scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    *options: Any,  # Numbers
) -> torch.Tensor:
    """The op `siamfast::xcorr`, with a graph where one is needed."""
    apply = _XCorr.apply if _needs_grad(z, x, scale, bias) else _xcorr_forward
    return apply(z, x, scale, bias, *options)


def depthwise(z: torch.Tensor, x: torch.Tensor, ph: int, pw: int) -> torch.Tensor:
    """The op `siamfast::xcorr_depthwise`, with a graph where one is needed."""
    return (_XCorrDepthwise.apply if _needs_grad(z, x) else _depthwise_forward)(z, x, ph, pw)


# -------------------------------------------------------------------------------------------------- full: registration
def by_reference(
    z: torch.Tensor,
    x: torch.Tensor,
    scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    *numbers: Any,
) -> torch.Tensor:
    """The specification, from the raw op's arguments."""
    n = Numbers(*numbers)
    response = reference.xcorr(
        z,
        x,
        scale=n.scale_constant if scale is None else scale,
        bias=n.bias_constant if bias is None else bias,
        padding=(n.pad_y, n.pad_x),
        pairing="all" if n.all_pairs else "cycle",
    )
    return response.to(x.dtype)


def _xcorr_kernel(*args: Any) -> torch.Tensor:
    chosen = _implementation(args[1])
    return chosen.full_forward(*args) if chosen else by_reference(*args)


def _xcorr_fake(z: Any, x: Any, scale: Any, bias: Any, alpha: Any, beta: Any, ph: Any, pw: Any, all_pairs: Any) -> Any:
    outputs = z.shape[1] // x.shape[1] * (z.shape[0] if all_pairs else 1)
    return x.new_empty(x.shape[0], outputs, *eager.response_size(z, x, ph, pw))


def _xcorr_reference_backward(grad: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    *inputs, needs = args
    tensors, options = tuple(inputs[:4]), inputs[4:]
    return library.reference_gradients(lambda *t: by_reference(*t, *options), tensors, grad, needs)


def _xcorr_backward_kernel(grad: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    chosen = _implementation(args[1])
    return chosen.full_backward(grad, *args) if chosen else _xcorr_reference_backward(grad, *args)


def _xcorr_backward_fake(grad: Any, z: Any, x: Any, scale: Any, bias: Any, *options: Any) -> tuple[torch.Tensor, ...]:
    needs = options[-1]
    like_x = torch.empty_like(x, memory_format=eager.layout(x))
    made = (
        z.new_empty(z.shape),
        like_x,
        None if scale is None else scale.new_empty(scale.shape),
        None if bias is None else bias.new_empty(bias.shape),
    )
    return tuple(m if need and m is not None else grad.new_empty(0) for m, need in zip(made, needs, strict=True))


_OPTIONS = "Tensor? scale, Tensor? bias, float alpha, float beta, int ph, int pw, bool all_pairs"
_xcorr_forward = library.register(f"xcorr(Tensor z, Tensor x, {_OPTIONS}) -> Tensor", _xcorr_kernel, _xcorr_fake)
_xcorr_backward = library.register(
    f"xcorr_backward(Tensor grad, Tensor z, Tensor x, {_OPTIONS}, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)",
    _xcorr_backward_kernel,
    _xcorr_backward_fake,
)
library.register_double_backward("xcorr_backward", _xcorr_reference_backward)
register_decomposition([_xcorr_forward])(onnx.full)


class _XCorr(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, x: torch.Tensor, scale: Any, bias: Any, *options: Any) -> torch.Tensor:
        ctx.save_for_backward(z, x, scale, bias)
        ctx.options = options
        return _xcorr_forward(z, x, scale, bias, *options)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needs = list(ctx.needs_input_grad[:4])
        found = _xcorr_backward(grads[0], *ctx.saved_tensors, *ctx.options, needs)
        return (*(g if need else None for g, need in zip(found, needs, strict=True)), *[None] * len(ctx.options))


# --------------------------------------------------------------------------------------------- depthwise: registration
def _depthwise_reference(z: torch.Tensor, x: torch.Tensor, ph: int, pw: int) -> torch.Tensor:
    return reference.xcorr_depthwise(z, x, padding=(ph, pw))


def _depthwise_kernel(z: torch.Tensor, x: torch.Tensor, ph: int, pw: int) -> torch.Tensor:
    chosen = _implementation(x)
    if chosen:
        return chosen.depthwise_forward(z, x, ph, pw)
    return _depthwise_reference(z, x, ph, pw).contiguous(memory_format=eager.layout(x))


def _depthwise_fake(z: Any, x: Any, ph: Any, pw: Any) -> Any:
    shape = x.shape[0], x.shape[1], *eager.response_size(z, x, ph, pw)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=eager.layout(x))


def _depthwise_reference_backward(grad: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    z, x, ph, pw, needs = args
    return library.reference_gradients(lambda z, x: _depthwise_reference(z, x, ph, pw), (z, x), grad, needs)


def _depthwise_backward_kernel(grad: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    chosen = _implementation(args[1])
    if chosen:
        return chosen.depthwise_backward(grad, *args)
    dz, dx = _depthwise_reference_backward(grad, *args)
    return dz.contiguous(), dx.contiguous(memory_format=eager.layout(args[1])) if dx.dim() == 4 else dx


def _depthwise_backward_fake(grad: Any, z: Any, x: Any, ph: Any, pw: Any, needs: Any) -> tuple[torch.Tensor, ...]:
    return (
        z.new_empty(z.shape) if needs[0] else grad.new_empty(0),
        torch.empty_like(x, memory_format=eager.layout(x)) if needs[1] else grad.new_empty(0),
    )


_depthwise_forward = library.register(
    "xcorr_depthwise(Tensor z, Tensor x, int ph, int pw) -> Tensor", _depthwise_kernel, _depthwise_fake
)
_depthwise_backward = library.register(
    "xcorr_depthwise_backward(Tensor grad, Tensor z, Tensor x, int ph, int pw, bool[] needs) -> (Tensor, Tensor)",
    _depthwise_backward_kernel,
    _depthwise_backward_fake,
)
library.register_double_backward("xcorr_depthwise_backward", _depthwise_reference_backward)
register_decomposition([_depthwise_forward])(onnx.depthwise)


class _XCorrDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, x: torch.Tensor, ph: int, pw: int) -> torch.Tensor:
        ctx.save_for_backward(z, x)
        ctx.padding = ph, pw
        return _depthwise_forward(z, x, ph, pw)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needs = list(ctx.needs_input_grad[:2])
        found = _depthwise_backward(grads[0], *ctx.saved_tensors, *ctx.padding, needs)
        return (*(g if need else None for g, need in zip(found, needs, strict=True)), None, None)
