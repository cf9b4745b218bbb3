"""Context crops: cut windows out of an image, fill their parts outside it, and resize, in one pass for many boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.ops import dispatch, library
from siamfast.ops.crop_and_resize import autograd as raw
from siamfast.ops.crop_and_resize import cpp
from siamfast.ops.crop_and_resize.call import Border, CropCall, Options, Rule
from siamfast.ops.crop_and_resize.windows import (
    Convention,
    as_numbers,
    convention,
    make_windows,
    out_sides,
    round_mean,
    within,
)

_BORDERS = {"constant": Border.CONSTANT, "replicate": Border.REPLICATE, "reflect": Border.REFLECT}
_RULES = {"pixel": Rule.PIXEL, "subpixel": Rule.SUBPIXEL, "corner-aligned": Rule.CORNER_ALIGNED}


def can_run(backend: str, device_type: str, dtype: torch.dtype, *, raise_error: bool = False) -> bool:
    """Whether `backend` serves crop_and_resize on this device and dtype (antialias: all but "triton")."""
    return dispatch.can_run(backend, device_type, dtype, raise_error, raw.reason)


# ---------------------------------------------------------------------------------------------------- public function
def crop_and_resize(
    image: Any,
    centers: Any,
    sizes: Any,
    out_size: int | tuple[int, int],
    *,
    fill: Any = "mean",
    rounding: str = "pixel",
    antialias: bool = False,
    out: Any = None,
    layout: str | None = None,
) -> Any:
    """Cut windows out of an image and resize them; outside the image they show `fill`.

    No padding or copy of the image is made. The mean is computed once per call, and only if a window can show it
    (`mean_color` computes it for several calls). With the default `rounding` the result is that of OpenCV's
    `resize(INTER_LINEAR)` of the padded, cut-out window within one grey level (SiamFC's crop, Bertinetto et al. 2016,
    section 3.4).

    Args:
        image: numpy (H, W, C); torch (C, H, W) or (H, W, C); or a batch of either, with window i cut from image i.
            uint8, float32, bfloat16, float16 or (torch and reference backend) float64. Any strides. CUDA tensors stay
            on the GPU.
        centers: (2,) or (M, 2): x, y in pixels, with pixel centres at whole numbers: a box x, y, w, h has its centre at
            x + (w - 1) / 2, y + (h - 1) / 2, as in trackers.
        sizes: side of the square windows in pixels, a number or (M,), or (M, 2) widths and heights; up to 1,000,000.
        out_size: side of the results in pixels, or (height, width).
        fill: "mean" (of the image, per channel), a colour (a number, one per channel, or one per image and channel),
            "replicate" (the edge pixel) or "reflect" (without repeating the edge pixel).
        rounding: how a window is placed. "pixel": side and corner are rounded, as in "siamfc" (the paper's code,
            bilylee; the mean is truncated to a grey level). "subpixel": the exact window. Or another project's
            convention: "siamfc-pytorch", "pysot", "video_analyst", "pytracking" (edge pixels repeated), "ostrack"
            (padded with 0).
        antialias: when shrinking, a triangle filter as wide as the step, like PIL and torch's `antialias=True`.
        out: the array or tensor to write into, with the result's shape, dtype and kind (numpy or torch), any strides.
        layout: "chw" or "hwc"; None: numpy is HWC; torch is CHW unless only the last dimension is 1, 3 or 4.

    Returns:
        (M, C, S, S) for CHW, (M, S, S, C) for HWC; the image's dtype and kind. On floating torch images gradients flow
        to the image, through its mean too.

    Raises:
        TypeError, ValueError: an argument that does not fit, by its name: centres not finite, sizes not above 0, ...

    >>> import numpy as np, siamfast
    >>> frame = np.zeros((720, 1280, 3), np.uint8)
    >>> siamfast.crop_and_resize(frame, [[640, 360], [5, 5]], [255, 300], 127).shape
    (2, 127, 127, 3)
    """
    given = (centers, sizes, fill) if type(image) is np.ndarray else (image, centers, sizes, fill)  # an array asks back
    if library.runs_elsewhere(*given):
        return library.run_elsewhere(
            crop_and_resize, given, image, centers, sizes, out_size,
            fill=fill, rounding=rounding, antialias=antialias, out=out, layout=layout,
        )  # fmt: skip
    chosen = convention(rounding)
    height, width = out_sides(out_size)
    meta = isinstance(image, torch.Tensor) and image.is_meta
    windows = make_windows(centers, sizes, chosen, meta)
    if antialias and dispatch.traced() and any(isinstance(value, torch.Tensor) for value in (centers, sizes)):
        raise ValueError("antialias: got True in a torch.jit.trace, which would keep the example's windows: export it")
    options = Options(height, width, _border(fill, chosen), _RULES[chosen.rule], antialias)
    if isinstance(image, np.ndarray):
        pixels = _numpy_pixels(image, layout)
        hwc = layout != "chw"
        if _serves_numpy(pixels):
            return _crop_numpy(pixels, windows, fill, options, chosen, out, hwc=hwc, batched=image.ndim == 4)
        crops = _crop_torch(torch.from_numpy(np.ascontiguousarray(pixels)), windows, fill, options, chosen)
        array = (crops.permute(0, 2, 3, 1) if hwc else crops).numpy()
        if out is None:
            return array
        _check_out(out, array.shape, array.dtype)
        np.copyto(out, array)
        return out
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"image: got {type(image).__name__}, expected a numpy array or a torch.Tensor")
    hwc = _torch_is_hwc(image, layout)
    planes = image.permute(*range(image.dim() - 3), -1, -3, -2) if hwc else image
    planes = planes if planes.dim() == 4 else planes.unsqueeze(0)
    result = _crop_torch(planes, windows, fill, options, chosen)
    result = result.permute(0, 2, 3, 1) if hwc else result
    if out is None:
        return result
    _check_out(out, tuple(result.shape), result.dtype)
    if result.requires_grad:
        raise ValueError("out: got a tensor to write into while the image needs a gradient; expected None")
    return out.copy_(result)


def mean_color(image: Any, *, layout: str | None = None) -> NDArray[np.float64]:
    """The mean of each channel of an image, to pass as `fill` to several calls.

    Args:
        image: (H, W, C) array or (C, H, W) tensor.
        layout: of an array, "HWC" or "CHW"; None: by its shape, as for `crop_and_resize`.

    Returns:
        (C,) float64 array.

    Raises:
        TypeError, ValueError: neither an array nor a tensor, a batch, or another shape.

    >>> import numpy as np, siamfast
    >>> siamfast.mean_color(np.full((4, 4, 3), 7, np.uint8))
    array([7., 7., 7.])
    """
    if isinstance(image, np.ndarray):
        pixels = _numpy_pixels(image, layout)
        if pixels.shape[0] != 1:
            raise ValueError(f"image: got a batch of {pixels.shape[0]}, expected one image")
        if _serves_numpy(pixels) and pixels.dtype == np.uint8:
            return _numpy_mean(pixels)[0]
        return pixels[0].astype(np.float64).mean((1, 2))
    if not isinstance(image, torch.Tensor) or image.dim() != 3:
        raise TypeError(f"image: got {type(image).__name__}, expected one image, a numpy array or a torch.Tensor")
    tensor = image.detach()
    planes = tensor.permute(2, 0, 1) if _torch_is_hwc(image, layout) else tensor
    mean = _tensor_mean(planes[None])[0] if planes.dtype == torch.uint8 else planes.double().mean((1, 2))
    return mean.double().cpu().numpy()


# -------------------------------------------------------------------------------------------------------------- checks
def _border(fill: Any, chosen: Convention) -> Border:
    if not isinstance(fill, str):
        return Border.CONSTANT
    if fill == "mean":
        return _BORDERS[chosen.border]
    if fill not in ("replicate", "reflect"):
        raise ValueError(f"fill: got {fill!r}, expected 'mean', 'replicate', 'reflect' or a colour")
    return _BORDERS[fill]


def _numpy_pixels(image: NDArray[Any], layout: str | None) -> NDArray[Any]:
    """A view (N, C, H, W) of the array."""
    if layout not in (None, "hwc", "chw"):
        raise ValueError(f"layout: got {layout!r}, expected 'hwc', 'chw' or None")
    if image.dtype not in (np.uint8, np.float32, np.float16, np.float64):
        raise TypeError(f"image: got dtype {image.dtype}, expected uint8, float32, float16 or float64")
    if image.ndim not in (3, 4):
        raise ValueError(f"image: got shape {image.shape}, expected (H, W, C) or a batch of it")
    pixels = image if image.ndim == 4 else image[None]
    pixels = pixels if layout == "chw" else pixels.transpose(0, 3, 1, 2)
    _check_sides(image.shape, pixels.shape)
    return pixels


def _torch_is_hwc(image: torch.Tensor, layout: str | None) -> bool:
    if layout not in (None, "hwc", "chw"):
        raise ValueError(f"layout: got {layout!r}, expected 'hwc', 'chw' or None")
    if image.dim() not in (3, 4):
        raise ValueError(f"image: got shape {tuple(image.shape)}, expected (C, H, W), (H, W, C) or a batch of them")
    if image.dtype not in (*raw.KERNEL_DTYPES, torch.float64):
        raise TypeError(f"image: got dtype {image.dtype}, expected uint8, float32, bfloat16, float16 or float64")
    colors = (1, 3, 4)
    hwc = layout == "hwc" if layout else image.shape[-3] not in colors and image.shape[-1] in colors
    shape = image.shape[-3:]
    _check_sides(image.shape, (1, shape[2], *shape[:2]) if hwc else (1, *shape))
    return hwc


def _check_sides(shape: Any, nchw: Any) -> None:
    if min(nchw[1:]) < 1:
        raise ValueError(f"image: got shape {tuple(shape)}, expected at least one channel and one pixel")


def _check_out(out: Any, shape: Any, dtype: Any) -> None:
    kind = np.ndarray if isinstance(dtype, np.dtype) else torch.Tensor
    if not isinstance(out, kind):
        raise TypeError(f"out: got {type(out).__name__}, expected a {kind.__name__}, as the image")
    if tuple(out.shape) != tuple(shape) or out.dtype != dtype:
        raise ValueError(f"out: got {tuple(out.shape)} {out.dtype}, expected {tuple(shape)} {dtype}")


def _colors(fill: Any, count: int, channels: int, meta: bool = False) -> Any:
    """(N, C) float64 of a colour, of the kind that `as_numbers` returns; zeros for an edge mode, which reads none."""
    if isinstance(fill, str):
        return np.zeros((count, channels)) if not dispatch.values_unknown() else torch.zeros(count, channels).double()
    color = as_numbers(fill, "fill", meta)
    namespace: Any = torch if isinstance(color, torch.Tensor) else np
    finite = namespace is torch or bool(np.isfinite(color).all())
    if tuple(color.shape) not in ((), (1,), (channels,), (count, channels)) or not finite:
        raise ValueError(f"fill: got {fill!r}, expected a finite number or one for each of {channels} channels")
    return color + namespace.zeros((count, channels))


def _check_count(images: int, windows: int) -> None:
    if images not in (1, windows):
        raise ValueError(f"centers: got {windows} windows, expected one for each of {images} images")


# --------------------------------------------------------------------------------------------------------------- numpy
def _serves_numpy(pixels: NDArray[Any]) -> bool:
    """Whether the C++ kernel takes this array directly, without making a tensor."""
    name = dispatch.forced()
    if name not in (None, "cpp") or pixels.dtype == np.float64:
        return False
    return dispatch.cpp_reason("cpu", torch.uint8, raw.KERNEL_DTYPES) is None


def _numpy_mean(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """(N, C) means of a (N, C, H, W) view."""
    if pixels.dtype != np.uint8:
        return pixels.mean((2, 3), dtype=np.float64)
    return np.asarray(cpp.channel_sums(pixels), dtype=np.float64) / (pixels.shape[2] * pixels.shape[3])


def _crop_numpy(
    pixels: NDArray[Any],  # (N, C, H, W) view
    windows: NDArray[np.float64],
    fill: Any,
    options: Options,
    chosen: Convention,
    out: Any,
    *,
    hwc: bool,
    batched: bool,
) -> NDArray[Any]:
    images, channels = pixels.shape[:2]
    if not isinstance(windows, np.ndarray):
        raise TypeError("image: got a numpy array within a compiler, transform or fake mode, expected a torch.Tensor")
    if batched:
        _check_count(images, len(windows))
    size = options.height, options.width
    shape = (len(windows), *size, channels) if hwc else (len(windows), channels, *size)
    if out is None:
        out = np.empty(shape, pixels.dtype)
    else:
        _check_out(out, shape, pixels.dtype)
        if not out.flags.writeable:
            raise ValueError("out: got an array that is not writeable")
    target = out.transpose(0, 3, 1, 2) if hwc else out
    shows_fill = not within(windows, pixels.shape[2], pixels.shape[3], chosen, options.antialias)
    if shows_fill and isinstance(fill, str) and fill == "mean" and options.border == Border.CONSTANT:
        colors = round_mean(_means(pixels, chosen), chosen, pixels.dtype == np.uint8)
    else:
        colors = _colors(fill, images, channels)
    cpp.crop_arrays(pixels, windows, colors, target, options)
    return out


def _means(pixels: NDArray[Any], chosen: Convention) -> NDArray[np.float64]:
    return np.zeros(pixels.shape[:2]) if chosen.mean == "zero" else _numpy_mean(pixels)


# --------------------------------------------------------------------------------------------------------------- torch
def _crop_torch(
    pixels: torch.Tensor,  # (N, C, H, W)
    windows: Any,  # (M, 4)
    fill: Any,
    options: Options,
    chosen: Convention,
) -> torch.Tensor:
    images, channels = pixels.shape[:2]
    _check_count(images, len(windows))
    fill_is_mean = isinstance(fill, str) and fill == "mean"
    fill_is_mean = fill_is_mean and not within(windows, pixels.shape[2], pixels.shape[3], chosen, options.antialias)
    windows = torch.as_tensor(windows)
    if fill_is_mean and options.border == Border.CONSTANT and chosen.mean != "zero":
        colors = _tensor_mean(pixels)
        if pixels.dtype == torch.uint8 and chosen.mean != "exact":
            colors = colors.trunc() if chosen.mean == "truncate" else colors.round()
    else:
        colors = torch.as_tensor(_colors(fill, images, channels, pixels.is_meta)).to(pixels.device, non_blocking=True)
    return raw.crop(CropCall(pixels, windows, colors, options))


def _tensor_mean(pixels: torch.Tensor) -> torch.Tensor:
    """(N, C) means of (N, C, H, W): exact for uint8, on the CPU by the SIMD sums for numpy."""
    if pixels.dtype == torch.uint8 and pixels.device.type == "cpu" and not dispatch.values_unknown():
        array = pixels.numpy()
        if _serves_numpy(array):
            return torch.from_numpy(_numpy_mean(array))
    height, width = pixels.shape[2:]
    if pixels.dtype == torch.uint8 and 255 * width < 1 << 24:  # a row's sum is exact in float32, a level in 16 bits
        return pixels.half().sum(3, dtype=torch.float32).double().sum(2) / (height * width)
    double = pixels.dtype == torch.float64 or not pixels.is_floating_point()
    return pixels.to(torch.float64 if double else torch.float32).mean((2, 3))
