"""augment: geometry, colour, blur, noise and cut-out of a batch of crops in one pass, uint8 to normalised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.ops import dispatch, library
from siamfast.ops.augment import autograd
from siamfast.ops.augment.call import AugmentCall, Options
from siamfast.ops.augment.reference import COLUMNS
from siamfast.ops.crop_and_resize.windows import out_sides

# column -> least and largest value; they bound how far a kernel has to read, and refuse NaN.
_LIMITS = {
    "x": (-1e6, 1e6), "y": (-1e6, 1e6), "step_x": (0.5, 2.0), "step_y": (0.5, 2.0), "blur": (0.0, 3.0),
    "brightness": (0.0, 100.0), "contrast": (0.0, 100.0), "saturation": (0.0, 100.0), "noise": (0.0, 255.0),
    "seed": (0.0, 2.0**24 - 1), **dict.fromkeys(("left", "top", "right", "bottom"), (-1e6, 1e6)),
}  # fmt: skip
_SIGNED = np.array([name.startswith("step") for name in _LIMITS])  # a negative step mirrors
_TABLE = np.stack((*np.array(list(_LIMITS.values())).T, ~_SIGNED)).astype(np.float32)  # struct Limits of C++
_LOWEST, _HIGHEST, _ = _TABLE
_TABLE_ADDRESS = _TABLE.ctypes.data
_BLUR, _SEED = COLUMNS.index("blur"), COLUMNS.index("seed")
_LEAST_BLUR = 0.5  # below it a Gaussian sampled at whole pixels has no effect


def can_run(
    backend: str, device_type: str = "cpu", dtype: torch.dtype = torch.float32, *, raise_error: bool = False
) -> bool:
    """Whether a backend can write `dtype` on this device; with `raise_error` it raises the reason why not."""
    return dispatch.can_run(backend, device_type, dtype, raise_error)


def no_draws(count: int, size: tuple[int, int]) -> torch.Tensor:
    """Draws that change nothing: the middle of images of `size` (height, width), a step of 1, no colour, no noise.

    Args:
        count: number of images. size: their (height, width).

    Returns:
        (count, 14) float32; columns as in `siamfast.augment`.

    Raises:
        TypeError: a count or size that is not a number.

    >>> no_draws(1, (255, 255))[0, :4].tolist()
    [127.0, 127.0, 1.0, 1.0]
    """
    start = dict.fromkeys(COLUMNS, 0.0) | {"x": (size[1] - 1) / 2, "y": (size[0] - 1) / 2}
    start |= dict.fromkeys(("step_x", "step_y", "brightness", "contrast", "saturation"), 1.0)
    return torch.tensor([list(start.values())], dtype=torch.float32).repeat(count, 1)


def augment(
    images: torch.Tensor | NDArray[np.uint8],
    draws: torch.Tensor,
    *,
    out_size: int | tuple[int, int] | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Augment a batch of uint8 crops, each by its own draws, in one pass: two Triton launches, or one loop in C++.

    A crop is moved, stretched and mirrored; blurred; a rectangle of it is cut out; saturation, contrast and brightness
    change, in this order; noise is added; the result is clamped to 0 .. 255 and normalised. Pixels outside the image
    and in the cut-out get the image's mean, taken over every 8th pixel of every 8th row; contrast turns about the
    mean's luma. Without blur, sampling is bilinear, or a triangle as wide as the step if that is larger than 1.

    Args:
        images: (N, 3, H, W) uint8 RGB tensor, any strides; contiguous and channels_last ones are not copied. Or the (N,
            H, W, 3) uint8 array that `crop_and_resize` makes of a frame, which is not copied either.
        draws: (N, 14) float32 on the CPU, one row per image. Columns, `siamfast.ops.augment.reference.COLUMNS`:
            x, y: the pixel of the image at the output's middle; centres of pixels are whole numbers.
            step_x, step_y: image pixels per output pixel, 0.5 to 2; negative: mirrored.
            blur: sigma of a Gaussian, image pixels: 0, or 0.5 to 3.
            brightness, contrast, saturation: factors, 0 or more; a saturation of 0 is gray.
            noise, seed: sigma in grey levels, and a whole number below 2^24 that alone decides its draws.
            left, top, right, bottom: the cut-out, output pixels, right and bottom excluded.
            `siamfast.draw_augmentation` draws them for training; `no_draws` changes nothing.
        out_size: side, or (height, width), of the output; None: that of the images.
        mean, std: subtracted, then divided by, in grey levels; one number, or one per channel.
        dtype: of the output: float32, bfloat16, float16, or float64 (plain PyTorch).

    Returns:
        (N, 3, h, w) in `dtype`, channels_last. It has no gradient.

    Raises:
        TypeError: images that are not uint8, draws that are not float32, an unknown dtype.
        ValueError: shapes that do not fit, draws outside the limits above, a std that is not positive.

    Source:
        the augmentations of SiamFC's training (Bertinetto et al. 2016, section 4.3), of siamfc-pytorch, pysot and
        video_analyst; the cut-out is random erasing (Zhong et al. 2017).

    >>> import torch
    >>> from siamfast.ops.augment import no_draws
    >>> images = torch.full((2, 3, 255, 255), 128, dtype=torch.uint8)
    >>> out = augment(images, no_draws(2, (255, 255)), out_size=239, mean=128, std=60)
    >>> out.shape, float(out.abs().max())
    (torch.Size([2, 3, 239, 239]), 0.0)
    """
    if isinstance(images, np.ndarray):
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f"images: got an array of {images.dtype}, {images.shape}, expected uint8, (N, H, W, 3)")
        images = torch.from_numpy(images).permute(0, 3, 1, 2)
    if library.runs_elsewhere(images, draws):
        options = {"out_size": out_size, "mean": mean, "std": std, "dtype": dtype}
        return library.run_elsewhere(augment, (images, draws), images, draws, **options)
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"images: got {type(images).__name__}, expected a torch.uint8 tensor")
    if not isinstance(draws, torch.Tensor):
        raise TypeError(f"draws: got {type(draws).__name__}, expected a torch.float32 tensor")
    checked = _options(
        images.shape, images.dtype, draws.shape, draws.dtype, draws.device, out_size,
        tuple(mean) if isinstance(mean, list) else mean, tuple(std) if isinstance(std, list) else std, dtype,
    )  # fmt: skip
    if not draws.is_meta:
        _check_values(draws)
    elif not images.is_meta:
        raise ValueError("draws: got them on meta, without values, expected the CPU, as images have theirs")
    return autograd.augment(AugmentCall(images, draws, checked))


@dispatch.remembered
def _options(
    shape: torch.Size,
    images_dtype: torch.dtype,
    draws_shape: torch.Size,
    draws_dtype: torch.dtype,
    draws_device: torch.device,
    out_size: int | tuple[int, int] | None,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    dtype: torch.dtype,
) -> Options:
    """The raw op's options, after checks of all but the tensors' values."""
    for name, got, needed in (("images", images_dtype, torch.uint8), ("draws", draws_dtype, torch.float32)):
        if got != needed:
            raise TypeError(f"{name}: got {got}, expected a {needed} tensor")
    if len(shape) != 4 or shape[1] != 3 or 0 in shape[2:]:
        raise ValueError(f"images: got shape {tuple(shape)}, expected (N, 3, H, W)")
    if tuple(draws_shape) != (shape[0], len(COLUMNS)) or draws_device.type not in ("cpu", "meta"):
        raise ValueError(
            f"draws: got shape {tuple(draws_shape)} on {draws_device}, expected ({shape[0]}, {len(COLUMNS)}) on the CPU"
        )
    if dtype not in (*dispatch.FLOATS, torch.float64):
        raise TypeError(f"dtype: got {dtype}, expected float32, bfloat16, float16 or float64")
    height, width = shape[2:] if out_size is None else out_sides(out_size)
    shift, scale = _channels("mean", mean), _channels("std", std)
    if min(scale) <= 0:
        raise ValueError(f"std: got {std}, expected more than 0")
    return Options(int(height), int(width), shift, scale, dtype)


def _check_values(draws: torch.Tensor) -> None:
    if dispatch.values_unknown():
        return
    extension, _ = dispatch.extension()
    within = None if extension is None else extension.draws_within  # one call, where numpy takes a dozen
    address = draws.data_ptr()  # 0: zeros that are not stored, or a subclass that holds its numbers elsewhere
    if within and address and draws.is_contiguous() and within(address, draws.shape[0], _TABLE_ADDRESS, _LEAST_BLUR):
        return
    try:
        table = draws.detach().numpy()
    except (RuntimeError, TypeError) as error:
        raise TypeError(
            f"draws: got {type(draws).__name__}, whose numbers cannot be read, expected a tensor"
        ) from error
    sizes = np.where(_SIGNED, np.abs(table), table)
    good = (sizes >= _LOWEST) & (sizes <= _HIGHEST)  # not for nan
    blur, seed = table[:, _BLUR], table[:, _SEED]
    good[:, _BLUR] &= (blur == 0) | (blur >= _LEAST_BLUR)
    good[:, _SEED] &= seed == seed.round()
    if good.all():
        return
    number = int((~good).any(0).argmax())
    bad = int((~good[:, number]).argmax())
    name, (low, high) = list(_LIMITS.items())[number]
    ranges = {"blur": f"0, or {_LEAST_BLUR} to {high}", "seed": "a whole number from 0 to 2^24 - 1"}
    raise ValueError(
        f"draws: {name} of image {bad} is {table[bad, number]}, expected {ranges.get(name, f'{low} to {high}')}"
    )


def _channels(name: str, value: Any) -> list[float]:
    try:
        values = [float(value)] * 3 if isinstance(value, Real) else [float(v) for v in value]
    except (TypeError, ValueError):
        values = []
    if len(values) != 3 or isinstance(value, str) or not all(map(math.isfinite, values)):
        raise ValueError(f"{name}: got {value!r}, expected a number, or one for each of 3 channels")
    return values
