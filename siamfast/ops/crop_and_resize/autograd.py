"""The raw op under crop_and_resize: registration, choice of the backend, autograd. Arguments are checked by then."""

from __future__ import annotations

import functools
from typing import Any

import torch

from siamfast.ops import dispatch, library
from siamfast.ops.crop_and_resize import cpp, eager, reference, triton
from siamfast.ops.crop_and_resize.windows import pixel_layout

KERNEL_DTYPES = (torch.uint8, *dispatch.FLOATS)
reason = functools.partial(dispatch.reason, kernel_dtypes=KERNEL_DTYPES)


def crop(
    image: torch.Tensor,  # (N, C, H, W)
    windows: torch.Tensor,  # (M, 4) float64 on the CPU: x, y, width, height; N = 1 or M
    fill: torch.Tensor,  # (N, C)
    *options: Any,  # out_height, out_width, border, rule, antialias
) -> torch.Tensor:  # (M, C, out_height, out_width)
    """The op, with a graph where one is needed; the forced reference differentiates by itself."""
    if dispatch.forced() == "reference":
        return reference.crop_and_resize(image, windows, fill, *options)
    if torch.is_grad_enabled() and (image.requires_grad or fill.requires_grad):
        return _CropAndResize.apply(image, windows, fill, *options)
    return _crop_forward(image, windows, fill, *options)


def _kernel(image: torch.Tensor, windows: torch.Tensor, fill: torch.Tensor, *options: Any) -> torch.Tensor:
    chosen = dispatch.pick(image.device, image.dtype, reason)
    antialias = options[-1]
    if chosen == "triton" and antialias:
        chosen = "torch"  # a filter's taps are many and few crops need it
    if chosen == "reference":
        return reference.crop_and_resize(image, windows, fill, *options)
    if chosen == "torch":
        result = eager.forward(image, windows, fill, *options)
        return result.contiguous(memory_format=pixel_layout(image))
    if chosen == "triton":
        return triton.forward(image, windows, fill, *options[:-1])
    return cpp.forward(image, windows, fill, *options)


def _fake(image: Any, windows: Any, fill: Any, height: Any, width: Any, *options: Any) -> Any:
    shape = (windows.shape[0], image.shape[1], height, width)
    return torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=pixel_layout(image))


def _reference_backward(grad: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    image, windows, fill, *options, needs = args
    return library.reference_gradients(
        lambda image, fill: reference.crop_and_resize(image, windows, fill, *options), (image, fill), grad, needs
    )


def _backward_kernel(grad: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    image, windows, fill, *options, needs = args
    name = dispatch.pick(image.device, image.dtype, reason)
    formula = reference.crop_and_resize if name == "reference" else eager.forward
    found = library.reference_gradients(
        lambda image, fill: formula(image, windows, fill, *options), (image, fill), grad, needs
    )
    return tuple(g.contiguous() for g in found)


def _backward_fake(grad: Any, image: Any, windows: Any, fill: Any, *options: Any) -> tuple[torch.Tensor, ...]:
    needs = options[-1]
    return tuple(t.new_empty(t.shape) if n else grad.new_empty(0) for t, n in zip((image, fill), needs, strict=True))


_OPTIONS = "Tensor windows, Tensor fill, int height, int width, int border, int rule, bool antialias"
_crop_forward = library.register(f"crop_and_resize(Tensor image, {_OPTIONS}) -> Tensor", _kernel, _fake)
_crop_backward = library.register(
    f"crop_and_resize_backward(Tensor grad, Tensor image, {_OPTIONS}, bool[] needs) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
)
library.register_double_backward("crop_and_resize_backward", _reference_backward)


class _CropAndResize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, image: torch.Tensor, windows: torch.Tensor, fill: torch.Tensor, *options: Any
    ) -> torch.Tensor:
        ctx.save_for_backward(image, windows, fill)
        ctx.options = options
        return _crop_forward(image, windows, fill, *options)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needs = [ctx.needs_input_grad[0], ctx.needs_input_grad[2]]
        image, fill = _crop_backward(grads[0], *ctx.saved_tensors, *ctx.options, needs)
        return (image if needs[0] else None, None, fill if needs[1] else None, *[None] * len(ctx.options))
