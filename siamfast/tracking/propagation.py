"""Carry masks through a video: warp the labels of the first frame onto each frame by its features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from siamfast.geometry import STRIDE
from siamfast.models.correspondence import grid_side
from siamfast.models.correspondence_weights import load_encoder
from siamfast.models.inference import choose_device
from siamfast.ops.propagate_labels import propagate_labels
from siamfast.tracking.inputs import as_rgb


class MaskPropagator:
    """Video object segmentation from the first frame's mask: no training on the object, no box.

    Each frame's features (CorrespondenceEncoder) are matched with those of the first and the last few frames, whose
    labels they take (`siamfast.propagate_labels`, Jabri, Owens, Efros 2020, section 4.1).

    Args:
        weights: of a CorrespondenceEncoder: a path, a module that maps (1, 3, H, W) RGB 0..255 to features of stride 8
            with cell i at pixel 8i, or None for the packaged ones.
        device: "auto" (CUDA where there is one), "cpu", "cuda", ...
        size: shorter side of the encoder's input, in pixels.
        preset, options: as for `propagate_labels`.

    Raises:
        TypeError, ValueError, OSError: an argument that does not fit, by its name.

    >>> import numpy as np
    >>> frames, mask = np.zeros((2, 64, 80, 3), np.uint8), np.eye(64, 80, dtype=np.uint8)
    >>> [result.shape for result in MaskPropagator(size=64).propagate(frames, mask)]
    [(64, 80), (64, 80)]
    """

    def __init__(
        self, weights: Any = None, *, device: str = "auto", size: int = 480, preset: str = "crw", **options: Any
    ) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or not 16 <= size <= 10_000:
            raise ValueError(f"size: got {size!r}, expected a whole number of pixels, 16 to 10000")
        self.device = choose_device(device)
        self.encoder = weights.eval() if isinstance(weights, torch.nn.Module) else load_encoder(weights)
        self.encoder = self.encoder.to(self.device)
        self.size, self.preset, self.options = size, preset, options

    def propagate(
        self, frames: Iterable[Any], mask: NDArray[np.integer[Any]]
    ) -> Iterator[NDArray[np.uint8] | NDArray[np.uint16]]:
        """Carry `mask` from the first frame through all others.

        Args:
            frames: (H, W, 3) uint8 RGB each (or any image that `Tracker.update` takes), all of one size; read as
            needed.
            mask: (H, W) of the first frame, whole numbers up to 65535: 0 is background, every other number an object,
                255 of them at most.

        Yields:
            The mask of every frame with the numbers of `mask`, (H, W) uint8, or uint16 if a number is above 255; the
            first is `mask` itself.

        Raises:
            ValueError: a mask of another size or without an object; a frame of another size than the first.
        """
        mask, numbers = _checked(mask)
        return self._propagate(iter(frames), mask, numbers)

    def too_small(self, mask: NDArray[np.integer[Any]]) -> list[int]:
        """The objects of a mask that have the largest share of no cell in the encoder's grid: the next frame loses
        them.

        Raises:
            ValueError: as `propagate`.
        """
        mask, numbers = _checked(mask)
        largest = self._cells(mask, numbers).argmax(0).unique().tolist()
        return [int(number) for index, number in enumerate(numbers) if number and index not in largest]

    def _cells(self, mask: NDArray[Any], numbers: NDArray[Any]) -> torch.Tensor:
        """(L, h, w) float32: the share of each number in every cell."""
        labels = torch.from_numpy(np.stack([mask == number for number in numbers])).to(self.device, torch.float32)
        sides = self.sides(*mask.shape)
        resized = F.interpolate(labels[None], sides, mode="area" if sides[0] < mask.shape[0] else "nearest-exact")
        return F.avg_pool2d(resized, STRIDE + 1, STRIDE, STRIDE // 2, count_include_pad=False)[0]

    @torch.inference_mode()
    def _propagate(
        self, frames: Iterator[Any], mask: NDArray[Any], numbers: NDArray[Any]
    ) -> Iterator[NDArray[np.uint8] | NDArray[np.uint16]]:
        height, width = mask.shape
        sides, cells = self.sides(height, width), self._cells(mask, numbers)
        features = (self._embed(frame, number, (height, width)) for number, frame in enumerate(frames))
        for number, labels in enumerate(propagate_labels(features, cells, preset=self.preset, **self.options)):
            if number == 0:
                yield mask
                continue
            fine = F.interpolate(labels[None], sides, mode="bilinear", align_corners=True)
            fine = F.interpolate(fine, (height, width), mode="bilinear", align_corners=False)[0]
            yield numbers[fine.max(0).indices.cpu().numpy()]  # `argmax` over this dimension takes ten times as long

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width, in pixels, of the encoder's input for a frame: the shorter one about `size`."""
        scale = self.size / min(height, width)
        return grid_side(height * scale), grid_side(width * scale)

    def _embed(self, frame: Any, number: int, shape: tuple[int, int]) -> torch.Tensor:
        image = as_rgb(frame)
        if image.shape[:2] != shape:
            raise ValueError(f"frames: frame {number} is {image.shape[:2]}, expected the mask's {shape}")
        return self.embed(image)

    def embed(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """image: (H, W, 3) uint8 RGB -> features (1, C, h, w) of the frame resized to `sides`."""
        height, width = self.sides(*image.shape[:2])
        filter_ = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
        resized = torch.from_numpy(np.asarray(cv2.resize(image, (width, height), interpolation=filter_)))
        batch = resized.to(self.device).permute(2, 0, 1)[None]  # channels_last in memory
        features: torch.Tensor = self.encoder(batch)
        return features.float()


def _checked(mask: NDArray[np.integer[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The mask in the smallest unsigned type for its numbers, and those numbers, 0 first."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer) or mask.size == 0:
        raise ValueError(f"mask: got {mask.dtype} of shape {mask.shape}, expected whole numbers (H, W)")
    numbers = np.unique(mask)
    if numbers[0] < 0 or numbers[-1] > 65535 or not numbers.any():
        raise ValueError(f"mask: got the numbers {numbers[:5].tolist()}, expected 0 to 65535, not all of them 0")
    if np.count_nonzero(numbers) > 255:
        raise ValueError(f"mask: got {np.count_nonzero(numbers)} objects, expected at most 255")
    dtype = np.uint8 if numbers[-1] < 256 else np.uint16
    return mask.astype(dtype), np.union1d(numbers, [0]).astype(dtype)
