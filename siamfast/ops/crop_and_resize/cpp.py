"""The `cpp` backend of crop_and_resize: passes tensors and NumPy arrays to siamfast._C."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.ops import buffers, dispatch
from siamfast.ops.crop_and_resize.call import CropCall, Options
from siamfast.ops.layout import layout_of


def forward(call: CropCall) -> torch.Tensor:  # (M, C, height, width)
    image, windows, fill, options = call
    shape = windows.shape[0], image.shape[1], options.height, options.width
    result = torch.empty(shape, dtype=image.dtype, memory_format=layout_of(image))
    dispatch.loaded_extension().crop_and_resize(
        buffers.of_tensor(image), windows.numpy(), fill.double().numpy(), buffers.of_tensor(result), options,
        torch.get_num_threads(),
    )  # fmt: skip
    return result


def crop_arrays(
    images: NDArray[Any],  # (N, C, H, W) view
    windows: NDArray[np.float64],  # (M, 4); N = 1 or M
    fill: NDArray[np.float64],  # (N, C)
    out: NDArray[Any],  # (M, C, height, width) view, written
    options: Options,
) -> None:
    """The same for NumPy arrays, into an existing one: for trackers, without PyTorch's cost per call."""
    dispatch.loaded_extension().crop_and_resize(
        buffers.of_array(images), windows, fill, buffers.of_array(out), options, torch.get_num_threads()
    )


def channel_sums(images: NDArray[np.uint8]) -> list[list[int]]:
    """The sum of each channel of each image; images: (N, C, H, W) view."""
    module, source, threads = dispatch.loaded_extension(), buffers.of_array(images), torch.get_num_threads()
    return [module.channel_sums(source, n, threads) for n in range(images.shape[0])]
