"""Training pairs from a store of curated crops: small JPEGs are decoded instead of frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamfast.data.pairs import Candidates, TrackPairs, usable_frames
from siamfast.data.store import CropStore
from siamfast.data.store_files import SUFFIX
from siamfast.geometry import box_centers, middle_by_index
from siamfast.io.listing import entries
from siamfast.ops.crop_and_resize import crop_and_resize


class StorePairs(TrackPairs):
    """Pairs of crops of one target, see `TrackPairs`, from a store of `siamfast curate`.

    Outside the stored crop a search window is filled with the crop's mean; curate with a larger `--instance` to avoid
    this. Templates are the stored ones, not stretched.

    Args:
        folder: the store.
        length, options: as for TrackPairs; the context amount is the store's.
        exemplar, instance: sides of the crops, pixels; the store's exemplar side, and at most its instance side.
        filter: draw only `usable_frames`.

    Raises:
        ValueError: no store; sides that it does not have; no usable frames; negatives with a single video.

    >>> StorePairs("curated", 1000)[0]["search"].shape  # doctest: +SKIP
    torch.Size([3, 255, 255])
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        length: int,
        *,
        exemplar: int = 127,
        instance: int = 255,
        filter: bool = True,
        **options: Any,
    ) -> None:
        self.store = CropStore(folder)
        settings = self.store.meta
        if exemplar != settings["exemplar"]:
            raise ValueError(
                f"exemplar: got {exemplar}, but the store {folder} has crops of {settings['exemplar']} pixels"
            )
        if instance > settings["instance"]:
            raise ValueError(
                f"instance: got {instance}, but the store {folder} has crops of {settings['instance']} pixels"
            )
        tracks = [
            Candidates(
                t.video,
                t.boxes,
                t.frames,
                usable_frames(t.boxes, t.sizes, t.visibility) if filter else np.arange(len(t.frames)),
            )
            for t in self.store.tracks
        ]
        options |= {"exemplar": exemplar, "instance": instance, "context_amount": settings["context_amount"]}
        try:
            super().__init__(tracks, length, **options)
        except ValueError as error:
            raise ValueError(f"store: {folder}: {error}") from None
        if self.negatives > 0 and len(self._videos) < 2:
            raise ValueError(f"negatives: got {self.negatives}, but the store {folder} has one video only")

    def crop(
        self, track: int, place: int, center: NDArray[np.float64], size: float, side: int, template: bool
    ) -> NDArray[np.uint8]:
        stored_track = self.store.tracks[track]
        box = stored_track.boxes[place].astype(float)
        scale = float(stored_track.scales[place])
        if template and abs(size * scale - side) < 0.5:  # the stored window
            return self.store.crop(stored_track, place, "z")
        stored = self.store.crop(stored_track, place, "x")
        # From frame pixels to pixels of the stored crop, which is centred on the box.
        middle = middle_by_index(stored.shape[0]) + (center - box_centers(box)) * scale
        cut: NDArray[np.uint8] = crop_and_resize(stored, middle, size * scale, side, rounding="subpixel")
        return cut[0]


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a folder has a store's files."""
    return Path(path).is_dir() and bool(entries(Path(path), "*" + SUFFIX))
