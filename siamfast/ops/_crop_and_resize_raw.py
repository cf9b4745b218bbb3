"""The raw op under crop_and_resize: registration, choice of the backend, autograd. Arguments are checked by then."""

from __future__ import annotations

from typing import Any

import torch

from siamfast.ops import _backend, _crop_and_resize_torch, _library
from siamfast.reference import crop_and_resize as reference

CODES = {torch.uint8: 0, torch.float32: 1, torch.bfloat16: 2, torch.float16: 3}


def reason(name: str, device_type: str, dtype: torch.dtype) -> str | None:
    if dtype not in (*CODES, torch.float64):
        return f"dtype {dtype} is not uint8, float32, bfloat16, float16 or float64"
    if name == "cpp":
        if device_type != "cpu":
            return f"the C++ kernel takes CPU tensors, not {device_type}"
        if dtype not in CODES:
            return f"the C++ kernel has no {dtype}"
        module, cause = _backend.extension()
        return None if module is not None else cause
    if name == "triton":
        return _backend.triton_reason(device_type, dtype, CODES)
    return None


def crop(
    image: torch.Tensor,  # (N, C, H, W)
    windows: torch.Tensor,  # (M, 4) float64 on the CPU: x, y, width, height; N = 1 or M
    fill: torch.Tensor,  # (N, C)
    *options: Any,  # out_height, out_width, border, rule, antialias
) -> torch.Tensor:  # (M, C, out_height, out_width)
    """The op, with a graph where one is needed; the forced reference differentiates by itself."""
    if _backend.forced() == "reference":
        return reference.crop_and_resize(image, windows, fill, *options)
    if torch.is_grad_enabled() and (image.requires_grad or fill.requires_grad):
        return _CropAndResize.apply(image, windows, fill, *options)
    return _crop_forward(image, windows, fill, *options)


def _kernel(image: torch.Tensor, windows: torch.Tensor, fill: torch.Tensor, *options: Any) -> torch.Tensor:
    chosen = _backend.pick(reason, image.device, image.dtype)
    antialias = options[-1]
    if chosen == "triton" and antialias:
        chosen = "torch"  # a filter's taps are many and few crops need it
    if chosen == "reference":
        return reference.crop_and_resize(image, windows, fill, *options)
    if chosen == "torch":
        result = _crop_and_resize_torch.forward(image, windows, fill, *options)
        return result.contiguous(memory_format=_layout(image))
    if chosen == "triton":
        from siamfast.kernels.crop_and_resize import launch

        return launch(image, windows, fill, *options[:-1], _layout(image))
    return _cpp_tensor(image, windows, fill, *options)


def _cpp_tensor(
    image: torch.Tensor, windows: torch.Tensor, fill: torch.Tensor, height: int, width: int, border: int, rule: int,
    antialias: bool,
) -> torch.Tensor:  # fmt: skip
    module, _ = _backend.extension()
    assert module is not None
    result = _fake(image, windows, fill, height, width)
    size, colors, places = image.element_size(), fill.double().numpy(), windows.numpy()
    _, sc, sy, sx = (step * size for step in image.stride())
    tm, tc, ty, tx = (step * size for step in result.stride())
    for n in range(image.shape[0]):
        part = slice(n, n + 1) if image.shape[0] > 1 else slice(None)
        module.crop_and_resize(
            image[n].data_ptr(), CODES[image.dtype], *image.shape[2:], image.shape[1], sy, sx, sc, places[part],
            result[part].data_ptr(), height, width, tm, ty, tx, tc, colors[n], border, rule, antialias,
            torch.get_num_threads(),
        )  # fmt: skip
    return result


def _layout(image: torch.Tensor) -> torch.memory_format:
    """Interleaved pixels in, interleaved pixels out."""
    if image.is_contiguous():
        return torch.contiguous_format
    last = torch.channels_last
    return last if image.is_contiguous(memory_format=last) else torch.contiguous_format


def _fake(image: Any, windows: Any, fill: Any, height: Any, width: Any, *options: Any) -> Any:
    shape = (windows.shape[0], image.shape[1], height, width)
    return torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=_layout(image))


def _reference_backward(grad: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    image, windows, fill, *options, needs = args
    return _library.reference_gradients(
        lambda image, fill: reference.crop_and_resize(image, windows, fill, *options), (image, fill), grad, needs
    )


def _backward_kernel(grad: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    image, windows, fill, *options, needs = args
    name = _backend.pick(reason, image.device, image.dtype)
    formula = reference.crop_and_resize if name == "reference" else _crop_and_resize_torch.forward
    found = _library.reference_gradients(
        lambda image, fill: formula(image, windows, fill, *options), (image, fill), grad, needs
    )
    return tuple(g.contiguous() for g in found)


def _backward_fake(grad: Any, image: Any, windows: Any, fill: Any, *options: Any) -> tuple[torch.Tensor, ...]:
    needs = options[-1]
    return tuple(t.new_empty(t.shape) if n else grad.new_empty(0) for t, n in zip((image, fill), needs, strict=True))


_OPTIONS = "Tensor windows, Tensor fill, int height, int width, int border, int rule, bool antialias"
_crop_forward = _library.register(f"crop_and_resize(Tensor image, {_OPTIONS}) -> Tensor", _kernel, _fake)
_crop_backward = _library.register(
    f"crop_and_resize_backward(Tensor grad, Tensor image, {_OPTIONS}, bool[] needs) -> (Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
)
_library.register_double_backward("crop_and_resize_backward", _reference_backward)


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
