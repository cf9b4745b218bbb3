"""Template-search cross-correlation: `xcorr`, `xcorr_depthwise`, `xcorr_pixelwise`."""

from __future__ import annotations

from typing import Any

import torch

from siamfast.ops import _backend, _library, _xcorr_torch
from siamfast.reference import xcorr as reference

Padding = int | tuple[int, int] | str


def can_run(backend: str, device_type: str, dtype: torch.dtype, *, raise_error: bool = False) -> bool:
    """Whether `backend` serves the three correlations on this device and dtype."""
    return _backend.can_run(_backend.plain_reason, backend, device_type, dtype, raise_error)


# ---------------------------------------------------------------------------------------------------- public functions
def xcorr(
    z: torch.Tensor,
    x: torch.Tensor,
    *,
    scale: float | torch.Tensor = 1.0,
    bias: float | torch.Tensor | None = None,
    padding: Padding = 0,
    pairing: str = "cycle",
) -> torch.Tensor:
    """Batched cross-correlation of templates with search features, contracting the channels.

    ``response[n, o, y, x] = scale * sum_{c,i,j} z[m, o*C + c, i, j] * x[n, c, y + i, x + j] + bias``, stride 1, no
    kernel flip (Bertinetto et al. 2016, "Fully-Convolutional Siamese Networks for Object Tracking", eq. 1; with
    O > 1 the up-channel correlation of SiamRPN, Li et al. 2018).

    Args:
        z: (Nz, O*C, Hz, Wz) template features; O kernels of C channels each, O slowest (pysot's `xcorr_fast`).
        x: (Nx, C, Hx, Wx) search features. Same floating dtype and device as z; any strides.
        scale, bias: numbers, or tensors with 1 or O elements, which get their gradients.
        padding: zeros around x, an int or (ph, pw); or "circular-h": wrap along H, replicate along W, by half the size
            of x (HDN's log-polar correlation).
        pairing: "cycle": Nx = k*Nz and search n meets template n mod Nz (siamfc-pytorch). "all": every search
            meets every template (SiamDW's `Corr_Up`).

    Returns:
        (Nx, O, Ho, Wo), or (Nx, Nz*O, Ho, Wo) for "all", with Ho = Hx + 2*ph - Hz + 1; z's dtype, sums in float32.
        Under autocast z and x go to its dtype, as for a convolution.

    Raises:
        TypeError, ValueError: for what does not fit, naming the argument.

    >>> import torch, siamfast
    >>> z, x = torch.randn(8, 256, 6, 6), torch.randn(8, 256, 22, 22)
    >>> siamfast.xcorr(z, x, scale=1e-3).shape
    torch.Size([8, 1, 17, 17])
    """
    _check_features(z, x)
    if pairing not in ("cycle", "all"):
        raise ValueError(f"pairing: got {pairing!r}, expected 'cycle' or 'all'")
    if z.shape[1] % x.shape[1]:
        raise ValueError(f"z: got {z.shape[1]} channels, expected a multiple of x's {x.shape[1]}")
    if pairing == "cycle":
        _check_cycle(z, x)
    per_template = z.shape[1] // x.shape[1]
    alpha, scale_tensor = _number_or_tensor(scale, "scale", per_template, x)
    beta, bias_tensor = _number_or_tensor(0.0 if bias is None else bias, "bias", per_template, x)
    x, ph, pw = _resolve_padding(z, x, padding)  # before the casts: under autocast some paddings give float32
    z, x = _library.autocast(x.device.type, z, x)
    if _backend.forced() == "reference":
        return reference.xcorr(z, x, scale=scale, bias=bias, padding=(ph, pw), pairing=pairing).to(x.dtype)
    args = (z, x, scale_tensor, bias_tensor, alpha, beta, ph, pw, pairing == "all")
    if _needs_grad(z, x, scale_tensor, bias_tensor):
        return _XCorr.apply(*args)
    return _xcorr_forward(*args)


def xcorr_depthwise(z: torch.Tensor, x: torch.Tensor, *, padding: Padding = 0) -> torch.Tensor:
    """Cross-correlation channel by channel (SiamRPN++, Li et al. 2019, section 3.3): one response map per channel.

    ``response[n, c, y, x] = sum_{i,j} z[n mod Nz, c, i, j] * x[n, c, y + i, x + j]``.

    Args:
        z: (Nz, C, Hz, Wz) template features.
        x: (Nx, C, Hx, Wx) search features, Nx a multiple of Nz. Same floating dtype and device as z; any strides.
        padding: as for `xcorr`.

    Returns:
        (Nx, C, Ho, Wo), Ho = Hx + 2*ph - Hz + 1; z's dtype.

    Raises:
        TypeError, ValueError: for what does not fit, naming the argument.

    >>> import torch, siamfast
    >>> siamfast.xcorr_depthwise(torch.randn(28, 256, 5, 5), torch.randn(28, 256, 29, 29)).shape
    torch.Size([28, 256, 25, 25])
    """
    _check_features(z, x)
    _check_same_channels(z, x)
    _check_cycle(z, x)
    x, ph, pw = _resolve_padding(z, x, padding)  # before the casts: under autocast some paddings give float32
    z, x = _library.autocast(x.device.type, z, x)
    if _backend.forced() == "reference":
        return reference.xcorr_depthwise(z, x, padding=(ph, pw))
    if _needs_grad(z, x):
        return _XCorrDepthwise.apply(z, x, ph, pw)
    return _depthwise_forward(z, x, ph, pw)


def xcorr_pixelwise(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Every template cell is a 1x1 kernel (LightTrack, Yan et al. 2021; NanoTrack): one response map per cell.

    ``response[n, i*Wz + j, y, x] = sum_c z[n mod Nz, c, i, j] * x[n, c, y, x]``.

    Args:
        z: (Nz, C, Hz, Wz) template features.
        x: (Nx, C, Hx, Wx) search features, Nx a multiple of Nz. Same floating dtype and device as z; any strides.

    Returns:
        (Nx, Hz*Wz, Hx, Wx); z's dtype.

    Raises:
        TypeError, ValueError: for what does not fit, naming the argument.

    >>> import torch, siamfast
    >>> siamfast.xcorr_pixelwise(torch.randn(2, 96, 8, 8), torch.randn(2, 96, 16, 16)).shape
    torch.Size([2, 64, 16, 16])
    """
    _check_features(z, x)
    _check_same_channels(z, x)
    _check_cycle(z, x)
    if _backend.forced() == "reference":
        return reference.xcorr_pixelwise(*_library.autocast(x.device.type, z, x))
    # The same sum as `xcorr` with O = Hz*Wz kernels of one cell.
    cells = z.flatten(2).transpose(1, 2).reshape(z.shape[0], z.shape[1] * z.shape[2] * z.shape[3], 1, 1)
    return xcorr(cells, x)


# -------------------------------------------------------------------------------------------------------------- checks
def _check_features(z: torch.Tensor, x: torch.Tensor) -> None:
    for name, value in (("z", z), ("x", x)):
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name}: got {type(value).__name__}, expected a torch.Tensor")
        if value.dim() != 4:
            raise ValueError(f"{name}: got shape {tuple(value.shape)}, expected 4 dimensions (N, C, H, W)")
        if not value.is_floating_point():
            raise TypeError(f"{name}: got dtype {value.dtype}, expected a floating dtype")
    if z.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"z: got dtype {z.dtype}, expected x's {x.dtype}")
    if z.device != x.device:
        raise ValueError(f"z: got device {z.device}, expected x's {x.device}")
    if x.shape[1] == 0:
        raise ValueError("x: got 0 channels, expected at least 1")
    if z.shape[2] == 0 or z.shape[3] == 0:
        raise ValueError(f"z: got an empty template of shape {tuple(z.shape)}")


def _check_same_channels(z: torch.Tensor, x: torch.Tensor) -> None:
    if z.shape[1] != x.shape[1]:
        raise ValueError(f"z: got {z.shape[1]} channels, expected x's {x.shape[1]}")


def _check_cycle(z: torch.Tensor, x: torch.Tensor) -> None:
    nz, nx = z.shape[0], x.shape[0]
    if (nz == 0 and nx != 0) or (nz != 0 and nx % nz):
        raise ValueError(f"x: got a batch of {nx}, expected a multiple of z's {nz}")


def _number_or_tensor(
    value: float | torch.Tensor, name: str, per_template: int, x: torch.Tensor
) -> tuple[float, torch.Tensor | None]:
    """(number, tensor): the part of scale or bias that is a constant and the part that may be trained."""
    neutral = 1.0 if name == "scale" else 0.0
    if not isinstance(value, torch.Tensor):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name}: got {type(value).__name__}, expected a number or a tensor")
        return float(value), None
    if not value.is_floating_point():
        raise TypeError(f"{name}: got dtype {value.dtype}, expected a floating dtype")
    if value.numel() not in (1, per_template):
        raise ValueError(f"{name}: got {value.numel()} elements, expected 1 or one per kernel ({per_template})")
    if value.device != x.device:
        raise ValueError(f"{name}: got device {value.device}, expected x's {x.device}")
    return neutral, value


def _resolve_padding(z: torch.Tensor, x: torch.Tensor, padding: Padding) -> tuple[torch.Tensor, int, int]:
    """x, and the zeros around it that the kernel writes; a border that copies x is written out here."""
    if isinstance(padding, str):
        if padding != "circular-h":
            raise ValueError(f"padding: got {padding!r}, expected an int, (ph, pw) or 'circular-h'")
        x, ph, pw = reference.pad_search(x, padding), 0, 0
    elif isinstance(padding, int) and not isinstance(padding, bool):
        ph = pw = padding
    elif isinstance(padding, (tuple, list)) and len(padding) == 2 and all(isinstance(p, int) for p in padding):
        ph, pw = padding
    else:
        raise TypeError(f"padding: got {padding!r}, expected an int, (ph, pw) or 'circular-h'")
    if ph < 0 or pw < 0:
        raise ValueError(f"padding: got {padding!r}, expected no negative number")
    if x.shape[2] + 2 * ph < z.shape[2] or x.shape[3] + 2 * pw < z.shape[3]:
        raise ValueError(
            f"z: got a template of {tuple(z.shape[2:])}, larger than the search of {tuple(x.shape[2:])} "
            f"with padding {(ph, pw)}"
        )
    return x, ph, pw


def _needs_grad(*tensors: torch.Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


# -------------------------------------------------------------------------------------------------- full: registration
def _full_reference(
    z: torch.Tensor,
    x: torch.Tensor,
    scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    alpha: float,
    beta: float,
    ph: int,
    pw: int,
    all_pairs: bool,
) -> torch.Tensor:
    response = reference.xcorr(
        z,
        x,
        scale=alpha if scale is None else scale,
        bias=beta if bias is None else bias,
        padding=(ph, pw),
        pairing="all" if all_pairs else "cycle",
    )
    return response.to(x.dtype)


def _xcorr_kernel(*args: Any) -> torch.Tensor:
    x = args[1]
    chosen = _backend.pick(_backend.plain_reason, x.device.type, x.dtype)
    return _full_reference(*args) if chosen == "reference" else _xcorr_torch.full_forward(*args)


def _xcorr_fake(z: Any, x: Any, scale: Any, bias: Any, alpha: Any, beta: Any, ph: Any, pw: Any, all_pairs: Any) -> Any:
    outputs = z.shape[1] // x.shape[1] * (z.shape[0] if all_pairs else 1)
    return x.new_empty(x.shape[0], outputs, x.shape[2] + 2 * ph - z.shape[2] + 1, x.shape[3] + 2 * pw - z.shape[3] + 1)


def _xcorr_reference_backward(grad: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    *inputs, needs = args
    tensors, options = tuple(inputs[:4]), inputs[4:]
    return _library.reference_gradients(lambda *t: _full_reference(*t, *options), tensors, grad, needs)


def _xcorr_backward_kernel(grad: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    x = args[1]
    if _backend.pick(_backend.plain_reason, x.device.type, x.dtype) == "reference":
        return _xcorr_reference_backward(grad, *args)
    return _xcorr_torch.full_backward(grad, *args)


def _xcorr_backward_fake(grad: Any, z: Any, x: Any, scale: Any, bias: Any, *options: Any) -> tuple[torch.Tensor, ...]:
    needs = options[-1]
    like_x = torch.empty_like(x, memory_format=_xcorr_torch.layout(x))
    made = (
        z.new_empty(z.shape),
        like_x,
        None if scale is None else scale.new_empty(scale.shape),
        None if bias is None else bias.new_empty(bias.shape),
    )
    return tuple(m if need and m is not None else grad.new_empty(0) for m, need in zip(made, needs, strict=True))


_OPTIONS = "Tensor? scale, Tensor? bias, float alpha, float beta, int ph, int pw, bool all_pairs"
_xcorr_forward = _library.register(f"xcorr(Tensor z, Tensor x, {_OPTIONS}) -> Tensor", _xcorr_kernel, _xcorr_fake)
_xcorr_backward = _library.register(
    f"xcorr_backward(Tensor grad, Tensor z, Tensor x, {_OPTIONS}, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)",
    _xcorr_backward_kernel,
    _xcorr_backward_fake,
)
_library.register_double_backward("xcorr_backward", _xcorr_reference_backward)


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
    chosen = _backend.pick(_backend.plain_reason, x.device.type, x.dtype)
    return (_depthwise_reference if chosen == "reference" else _xcorr_torch.depthwise_forward)(z, x, ph, pw)


def _depthwise_fake(z: Any, x: Any, ph: Any, pw: Any) -> Any:
    return x.new_empty(
        x.shape[0], x.shape[1], x.shape[2] + 2 * ph - z.shape[2] + 1, x.shape[3] + 2 * pw - z.shape[3] + 1
    )


def _depthwise_reference_backward(grad: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    z, x, ph, pw, needs = args
    return _library.reference_gradients(lambda z, x: _depthwise_reference(z, x, ph, pw), (z, x), grad, needs)


def _depthwise_backward_kernel(grad: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    x = args[1]
    if _backend.pick(_backend.plain_reason, x.device.type, x.dtype) == "reference":
        return _depthwise_reference_backward(grad, *args)
    return _xcorr_torch.depthwise_backward(grad, *args)


def _depthwise_backward_fake(grad: Any, z: Any, x: Any, ph: Any, pw: Any, needs: Any) -> tuple[torch.Tensor, ...]:
    return tuple(t.new_empty(t.shape) if need else grad.new_empty(0) for t, need in zip((z, x), needs, strict=True))


_depthwise_forward = _library.register(
    "xcorr_depthwise(Tensor z, Tensor x, int ph, int pw) -> Tensor", _depthwise_kernel, _depthwise_fake
)
_depthwise_backward = _library.register(
    "xcorr_depthwise_backward(Tensor grad, Tensor z, Tensor x, int ph, int pw, bool[] needs) -> (Tensor, Tensor)",
    _depthwise_backward_kernel,
    _depthwise_backward_fake,
)
_library.register_double_backward("xcorr_depthwise_backward", _depthwise_reference_backward)


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
