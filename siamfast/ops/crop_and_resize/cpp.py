"""The `cpp` backend of crop_and_resize: images handed to siamfast._C, tensors and NumPy arrays alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.ops import dispatch
from siamfast.ops.crop_and_resize.windows import pixel_layout

_CODES = {str(dtype).removeprefix("torch."): code for dtype, code in dispatch.CODES.items()}  # by NumPy's names


def forward(
    image: torch.Tensor,  # (N, C, H, W)
    windows: torch.Tensor,  # (M, 4) float64; N = 1 or M
    fill: torch.Tensor,  # (N, C)
    height: int,
    width: int,
    border: int,
    rule: int,
    antialias: bool,
) -> torch.Tensor:  # (M, C, height, width)
    module = dispatch.loaded_extension()
    shape = windows.shape[0], image.shape[1], height, width
    result = torch.empty(shape, dtype=image.dtype, memory_format=pixel_layout(image))
    size, colors, places = image.element_size(), fill.double().numpy(), windows.numpy()
    _, sc, sy, sx = (step * size for step in image.stride())
    tm, tc, ty, tx = (step * size for step in result.stride())
    for n in range(image.shape[0]):
        part = slice(n, n + 1) if image.shape[0] > 1 else slice(None)
        module.crop_and_resize(
            image[n].data_ptr(), dispatch.CODES[image.dtype], *image.shape[2:], image.shape[1], sy, sx, sc,
            places[part], result[part].data_ptr(), height, width, tm, ty, tx, tc, colors[n], border, rule, antialias,
            torch.get_num_threads(),
        )  # fmt: skip
    return result


def crop_array(
    image: NDArray[Any],  # (C, H, W) view
    windows: NDArray[np.float64],  # (M, 4)
    target: NDArray[Any],  # (M, C, h, w) view, written
    color: Any,  # (C,)
    border: int,
    rule: int,
    antialias: bool,
) -> None:
    """The same for a NumPy array, into one that is there: a tracker's call, without PyTorch's cost."""
    channels, height, width = image.shape
    sc, sy, sx = image.strides
    tm, tc, ty, tx = target.strides
    dispatch.loaded_extension().crop_and_resize(
        address(image), _CODES[image.dtype.name], height, width, channels, sy, sx, sc, windows, address(target),
        *target.shape[2:], tm, ty, tx, tc, color, border, rule, antialias, torch.get_num_threads(),
    )  # fmt: skip


def address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
