"""The raw op of crop_and_resize: registration, choice of the backend, autograd. Its arguments are already checked."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from siamfast.ops import dispatch, library
from siamfast.ops.crop_and_resize import cpp, eager, reference, triton
from siamfast.ops.crop_and_resize.call import CropCall
from siamfast.ops.layout import layout_of

KERNEL_DTYPES = (torch.uint8, *dispatch.FLOATS)
reason = functools.partial(dispatch.reason, kernel_dtypes=KERNEL_DTYPES)


def crop(call: CropCall) -> torch.Tensor:  # (M, C, height, width)
    """The op, with a graph if one is needed; a forced reference is differentiable by itself."""
    image, windows, fill, options = call
    if dispatch.forced() == "reference":
        if dispatch.transformed():  # windows may be traced too, of which the reference makes numbers
            return eager.forward(call)
        return reference.crop_and_resize(image, windows, fill, *options)
    result: torch.Tensor = _crop(image, windows, fill, *options)
    return result


def _kernel(*flat: Any) -> torch.Tensor:
    call = CropCall.of(*flat)
    chosen = dispatch.pick(call.image.device, call.image.dtype, reason)
    if chosen == "triton" and not triton.serves(call):
        chosen = "torch"
    if chosen == "reference":
        return reference.crop_and_resize(*flat)
    if chosen == "torch":
        return eager.forward(call).contiguous(memory_format=layout_of(call.image))
    return triton.forward(call) if chosen == "triton" else cpp.forward(call)


def _fake(*flat: Any) -> Any:
    image, windows, _, options = CropCall.of(*flat)
    shape = (windows.shape[0], image.shape[1], options.height, options.width)
    return torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=layout_of(image))


def _gradients(
    formula: Callable[[CropCall], torch.Tensor], grad: torch.Tensor, call: CropCall, needs: list[bool]
) -> tuple[torch.Tensor, ...]:
    return library.reference_gradients(
        lambda image, fill: formula(call._replace(image=image, fill=fill)), (call.image, call.fill), grad, needs
    )


def _by_reference(call: CropCall) -> torch.Tensor:
    return reference.crop_and_resize(call.image, call.windows, call.fill, *call.options)


def _reference_backward(grad: torch.Tensor, *flat: Any) -> tuple[torch.Tensor, ...]:
    *arguments, needs = flat
    return _gradients(_by_reference, grad, CropCall.of(*arguments), needs)


def _backward_kernel(grad: torch.Tensor, *flat: Any) -> tuple[torch.Tensor, ...]:
    *arguments, needs = flat
    call = CropCall.of(*arguments)
    name = dispatch.pick(call.image.device, call.image.dtype, reason)
    gradients = _gradients(_by_reference if name == "reference" else eager.forward, grad, call, needs)
    return tuple(g.contiguous() for g in gradients)


def _backward_fake(grad: Any, *flat: Any) -> tuple[torch.Tensor, ...]:
    *arguments, needs = flat
    call = CropCall.of(*arguments)
    sources = zip((call.image, call.fill), needs, strict=True)
    return tuple(t.new_empty(t.shape) if need else grad.new_empty(0) for t, need in sources)


_OPTIONS = "Tensor windows, Tensor fill, int height, int width, int border, int rule, bool antialias"
_crop_op = library.register(f"crop_and_resize(Tensor image, {_OPTIONS}) -> Tensor", _kernel, _fake)
_crop_backward_op = library.register(
    f"crop_and_resize_backward(Tensor grad, Tensor image, {_OPTIONS}, bool[] needs) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
)
_crop_backward = library.with_autograd(_crop_backward_op, _reference_backward)


class _CropAndResize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, image: torch.Tensor, windows: torch.Tensor, fill: torch.Tensor, *options: Any
    ) -> torch.Tensor:
        ctx.save_for_backward(image, windows, fill)
        ctx.options = options
        return _crop(image, windows, fill, *options)  # without gradients here

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needs = [ctx.needs_input_grad[0], ctx.needs_input_grad[2]]
        image, fill = _crop_backward(grads[0], *ctx.saved_tensors, *ctx.options, needs)
        return (image if needs[0] else None, None, fill if needs[1] else None, *[None] * len(ctx.options))


# Windows may have been transformed too, of which the reference makes numbers.
_crop = library.with_autograd(_crop_op, _CropAndResize.apply, lambda *flat: eager.forward(CropCall.of(*flat)))
