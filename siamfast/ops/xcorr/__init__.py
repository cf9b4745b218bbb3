"""Template-search cross-correlation: `xcorr`, `xcorr_depthwise`, `xcorr_pixelwise`."""

from __future__ import annotations

import torch
from torch.overrides import handle_torch_function, has_torch_function_variadic

from siamfast.ops import dispatch, library
from siamfast.ops.xcorr import autograd, onnx, reference
from siamfast.ops.xcorr.call import DepthwiseCall, Numbers, XcorrCall

Padding = int | tuple[int, int] | str


def can_run(backend: str, device_type: str, dtype: torch.dtype, *, raise_error: bool = False) -> bool:
    """Whether `backend` serves the three correlations on this device and dtype."""
    return dispatch.can_run(backend, device_type, dtype, raise_error)


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
        scale, bias: numbers, or tensors with 1 or O elements, which get gradients.
        padding: zeros around x, an int or (ph, pw); or "circular-h": wrap along H, replicate along W, by half the size
            of x (HDN's log-polar correlation).
        pairing: "cycle": Nx = k*Nz and search n goes with template n mod Nz (siamfc-pytorch). "all": every search goes
            with every template (SiamDW's `Corr_Up`).

    Returns:
        (Nx, O, Ho, Wo), or (Nx, Nz*O, Ho, Wo) for "all", with Ho = Hx + 2*ph - Hz + 1; z's dtype, sums in float32.
        Under autocast z and x go to its dtype, as for a convolution. On a GPU float32 products use TF32 where
        `torch.backends.cuda.matmul` allows it, those of the gradients where `torch.backends.cudnn` does.

    Raises:
        TypeError, ValueError: an argument that does not fit, by its name.

    >>> import torch, siamfast
    >>> z, x = torch.randn(8, 256, 6, 6), torch.randn(8, 256, 22, 22)
    >>> siamfast.xcorr(z, x, scale=1e-3).shape
    torch.Size([8, 1, 17, 17])
    """
    if has_torch_function_variadic(z, x, scale, bias):  # torch.fx's proxies, tensors of a kind of their own
        given = z, x, scale, bias
        return handle_torch_function(xcorr, given, z, x, scale=scale, bias=bias, padding=padding, pairing=pairing)
    return run_call(make_call(z, x, scale, bias, padding, pairing))


def make_call(
    z: torch.Tensor, x: torch.Tensor, scale: float | torch.Tensor, bias: float | torch.Tensor | None, padding: Padding,
    pairing: str = "cycle",
) -> XcorrCall:  # fmt: skip
    """The arguments, checked.

    Raises:
        TypeError, ValueError: an argument that does not fit, by its name.
    """
    template, search = _check_features(z, x)
    if pairing not in ("cycle", "all"):
        raise ValueError(f"pairing: got {pairing!r}, expected 'cycle' or 'all'")
    if template[1] % search[1]:
        raise ValueError(f"z: got {template[1]} channels, expected a multiple of x's {search[1]}")
    if pairing == "cycle":
        _check_cycle(template[0], search[0])
    per_template = template[1] // search[1]
    scale_constant, scale_tensor = _number_or_tensor(scale, "scale", per_template, x)
    bias_constant, bias_tensor = _number_or_tensor(0.0 if bias is None else bias, "bias", per_template, x)
    x, ph, pw = _resolve_padding(z, x, padding)  # before the casts: under autocast some paddings give float32
    z, x = library.autocast(z, x)
    return XcorrCall(z, x, scale_tensor, bias_tensor, Numbers(scale_constant, bias_constant, ph, pw, pairing == "all"))


def run_call(call: XcorrCall) -> torch.Tensor:
    """The correlation; a forced reference is differentiable by itself."""
    if dispatch.traced():
        return onnx.traced_full(call)
    if dispatch.forced() == "reference":
        return autograd.by_reference(call)
    return autograd.full(call)


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
        TypeError, ValueError: an argument that does not fit, by its name.

    >>> import torch, siamfast
    >>> siamfast.xcorr_depthwise(torch.randn(28, 256, 5, 5), torch.randn(28, 256, 29, 29)).shape
    torch.Size([28, 256, 25, 25])
    """
    if has_torch_function_variadic(z, x):
        return handle_torch_function(xcorr_depthwise, (z, x), z, x, padding=padding)
    template, search = _check_features(z, x)
    _check_same_channels(template[1], search[1])
    _check_cycle(template[0], search[0])
    x, ph, pw = _resolve_padding(z, x, padding)  # before the casts: under autocast some paddings give float32
    z, x = library.autocast(z, x)
    call = DepthwiseCall(z, x, ph, pw)
    if dispatch.traced():
        return onnx.traced_depthwise(call)
    if dispatch.forced() == "reference":
        return autograd.depthwise_by_reference(call)
    return autograd.depthwise(call)


def xcorr_pixelwise(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Cross-correlation with each template cell as a 1x1 kernel (LightTrack, Yan et al. 2021; NanoTrack): one map per
    cell.

    ``response[n, i*Wz + j, y, x] = sum_c z[n mod Nz, c, i, j] * x[n, c, y, x]``.

    Args:
        z: (Nz, C, Hz, Wz) template features.
        x: (Nx, C, Hx, Wx) search features, Nx a multiple of Nz. Same floating dtype and device as z; any strides.

    Returns:
        (Nx, Hz*Wz, Hx, Wx); z's dtype.

    Raises:
        TypeError, ValueError: an argument that does not fit, by its name.

    >>> import torch, siamfast
    >>> siamfast.xcorr_pixelwise(torch.randn(2, 96, 8, 8), torch.randn(2, 96, 16, 16)).shape
    torch.Size([2, 64, 16, 16])
    """
    if has_torch_function_variadic(z, x):
        return handle_torch_function(xcorr_pixelwise, (z, x), z, x)
    template, search = _check_features(z, x)
    _check_same_channels(template[1], search[1])
    _check_cycle(template[0], search[0])
    forced = dispatch.forced()
    if forced == "reference":
        return reference.xcorr_pixelwise(*library.autocast(z, x))
    can_run(forced or "torch", x.device.type, x.dtype, raise_error=True)
    # A plain matrix product: PyTorch's is the fastest, also on a GPU (an H200: 4.7 us, our kernels 11). `bmm` is
    # `matmul` without its search for the right product.
    if x.shape[0] == z.shape[0]:
        products = torch.bmm(z.flatten(2).transpose(1, 2), x.flatten(2))
    else:  # not len(), which turns a dynamic batch size of an export into a number
        products = torch.matmul(z.flatten(2).transpose(1, 2), x.flatten(2).unflatten(0, (-1, z.shape[0])))
    return products.reshape(x.shape[0], z.shape[2] * z.shape[3], x.shape[2], x.shape[3])


# -------------------------------------------------------------------------------------------------------------- checks
def _check_features(z: torch.Tensor, x: torch.Tensor) -> tuple[torch.Size, torch.Size]:
    """The shapes of both: each read of one takes 0.1 us."""
    for name, value in (("z", z), ("x", x)):
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name}: got {type(value).__name__}, expected a torch.Tensor")
        if not value.is_floating_point():
            raise TypeError(f"{name}: got dtype {value.dtype}, expected a floating dtype")
    template, search = z.shape, x.shape
    for name, shape in (("z", template), ("x", search)):
        if len(shape) != 4:
            raise ValueError(f"{name}: got shape {tuple(shape)}, expected 4 dimensions (N, C, H, W)")
    if z.dtype != x.dtype and (torch.float64 in (z.dtype, x.dtype) or not library.autocast_enabled(x.device.type)):
        raise TypeError(f"z: got dtype {z.dtype}, expected x's {x.dtype}")
    if z.device != x.device:
        raise ValueError(f"z: got device {z.device}, expected x's {x.device}")
    if search[1] == 0:
        raise ValueError("x: got 0 channels, expected at least 1")
    if template[2] == 0 or template[3] == 0:
        raise ValueError(f"z: got an empty template of shape {tuple(template)}")
    return template, search


def _check_same_channels(template: int, search: int) -> None:
    if template != search:
        raise ValueError(f"z: got {template} channels, expected x's {search}")


def _check_cycle(templates: int, searches: int) -> None:
    if (templates == 0 and searches != 0) or (templates != 0 and searches % templates):
        raise ValueError(f"x: got a batch of {searches}, expected a multiple of z's {templates}")


def _number_or_tensor(
    value: float | torch.Tensor, name: str, per_template: int, x: torch.Tensor
) -> tuple[float, torch.Tensor | None]:
    """(number, tensor): the part of scale or bias that is a constant and the part that may be trained."""
    if type(value) is float:  # the usual kind
        return value, None
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
    return 1.0 if name == "scale" else 0.0, value


def _resolve_padding(z: torch.Tensor, x: torch.Tensor, padding: Padding) -> tuple[torch.Tensor, int, int]:
    """x, and the zeros around it that the kernel adds; a border that copies x is added to x here."""
    if type(padding) is int:
        ph = pw = padding
    elif isinstance(padding, str):
        if padding != "circular-h":
            raise ValueError(f"padding: got {padding!r}, expected an int, (ph, pw) or 'circular-h'")
        x, ph, pw = reference.pad_search(x, padding), 0, 0
    elif isinstance(padding, (tuple, list)) and len(padding) == 2 and all(type(p) is int for p in padding):
        ph, pw = padding
    else:
        raise TypeError(f"padding: got {padding!r}, expected an int, (ph, pw) or 'circular-h'")
    if ph < 0 or pw < 0:
        raise ValueError(f"padding: got {padding!r}, expected no negative number")
    (_, _, hz, wz), (_, _, height, width) = z.shape, x.shape
    if height + 2 * ph < hz or width + 2 * pw < wz:
        raise ValueError(
            f"z: got a template of {(hz, wz)}, larger than the search of {(height, width)} with padding {(ph, pw)}"
        )
    return x, ph, pw
