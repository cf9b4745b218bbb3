"""The base class of all trackers: the result per frame, and tracking a sequence for the got10k toolkit."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from siamfast.tracking.inputs import Box, as_rgb

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


class Track(NamedTuple):
    """Result per frame: box x, y, w, h in 0-based pixels (x, y the top-left corner), and confidence in 0..1."""

    box: Box
    confidence: float


def with_fields(owner: str, config: Config, fields: dict[str, Any]) -> Config:
    """`config`, a tracker's dataclass of hyper-parameters, with some of them replaced.

    Raises:
        TypeError: an unknown hyper-parameter; the message names `owner`.
    """
    unknown = sorted(fields.keys() - {field.name for field in dataclasses.fields(config)})
    if unknown:
        raise TypeError(f"{owner}: unknown arguments {', '.join(unknown)}; see {type(config).__name__}")
    return dataclasses.replace(config, **fields)


def check_ranges(config: DataclassInstance, *ranges: tuple[str, float, float]) -> None:
    """Check that fields are numbers within ranges, given as (name, least, largest).

    Raises:
        TypeError, ValueError: with the field's name, its value and the expected range.
    """
    for name, low, high in ranges:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name}: got {value!r}, expected a number")
        if not low <= value <= high:
            raise ValueError(f"{name}: got {value!r}, expected {low} to {high}")


class SequenceTracker:
    """A tracker of one target: `init` on the first frame, `update` on every later one.

    name, is_deterministic: for the got10k toolkit. device, precision: where and how it runs. confidences: (T,) float64,
    of the last sequence given to `track`, 1 for its first frame; None before.
    """

    name: str = ""
    is_deterministic = True
    device: torch.device
    precision: str
    confidences: NDArray[np.float64] | None = None

    def init(self, image: Any, box: ArrayLike) -> SequenceTracker:
        """Take the target from the first frame: image RGB, (H, W, 3) uint8 or PIL; box x, y, w, h in 0-based pixels."""
        raise NotImplementedError

    def update(self, image: Any) -> Track:
        """Find the target in the next frame."""
        raise NotImplementedError

    @property
    def response(self) -> NDArray[np.float32]:
        """The last frame's map of where the target may be, larger where more likely, (h, w)."""
        raise NotImplementedError

    @property
    def lost(self) -> bool | None:
        """Whether the target was not found in the last frame; None for a tracker that never looks elsewhere."""
        return None

    @property
    def guidance(self) -> NDArray[np.float32] | None:
        """The last frame's map of where correspondence carried the target, 0 to 1, (h, w); None without a guide."""
        return None

    def track(
        self, img_files: Iterable[Any], box: ArrayLike, visualize: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Track through a sequence, as the got10k toolkit's trackers do.

        Args:
            img_files: paths or images. box: x, y, w, h in the first. visualize: show every frame in a window.

        Returns:
            boxes: (T, 4) float64, the first as given. times: (T,) seconds per frame, without decoding. The confidences
            are in the attribute, because the toolkit unpacks two values.

        Raises:
            ValueError: no frames, one that cannot be decoded, a box outside. OSError: a file that does not exist.
        """
        from siamfast.io.images import read_image

        tracks: list[Track] = []
        times: list[float] = []
        for source in img_files:
            image = read_image(source) if isinstance(source, (str, os.PathLike)) else source
            begin = time.perf_counter()
            if tracks:
                result = self.update(image)
            else:
                self.init(image, box)
                x, y, w, h = np.asarray(box, dtype=np.float64).ravel().tolist()
                result = Track((x, y, w, h), 1.0)
            times.append(time.perf_counter() - begin)
            tracks.append(result)
            if visualize:
                from siamfast.tracking.drawing import show

                show(as_rgb(image), result.box, title=self.name)
        if not tracks:
            raise ValueError("img_files: got no frames")
        self.confidences = np.array([track.confidence for track in tracks])
        return np.array([track.box for track in tracks], dtype=np.float64), np.array(times)
