"""Training pairs from a store of curated crops: no frame is decoded, small JPEGs are."""

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
    """Pairs of crops of one target: see `TrackPairs`; from a store that `siamfast curate` made.

    A search window that leaves the stored crop is filled with the crop's mean there; curate with a larger `--instance`
    to have all of it. Templates are the stored ones, not stretched.

    Args:
        folder: the store.
        length, options: as for TrackPairs; the context amount is the store's.
        exemplar, instance: sides of the crops, pixels; the store's own exemplar, and at most its instance side.
        filter: leave out frames by `usable_frames`.

    Raises:
        ValueError: no store; other sides than it has; no usable frames; negatives of a store with one video.

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
        made = self.store.meta
        if exemplar != made["exemplar"]:
            raise ValueError(f"exemplar: got {exemplar}, but the store {folder} has crops of {made['exemplar']} pixels")
        if instance > made["instance"]:
            raise ValueError(f"instance: got {instance}, but the store {folder} has crops of {made['instance']} pixels")
        tracks = [
            Candidates(
                t.video,
                t.boxes,
                t.frames,
                usable_frames(t.boxes, t.sizes, t.visibility) if filter else np.arange(len(t.frames)),
            )
            for t in self.store.tracks
        ]
        options |= {"exemplar": exemplar, "instance": instance, "context_amount": made["context_amount"]}
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
        if template and abs(size * scale - side) < 0.5:  # the window that was stored
            return self.store.crop(stored_track, place, "z")
        stored = self.store.crop(stored_track, place, "x")
        # From frame pixels to the stored crop's, whose middle is the middle of the box.
        middle = middle_by_index(stored.shape[0]) + (center - box_centers(box)) * scale
        cut: NDArray[np.uint8] = crop_and_resize(stored, middle, size * scale, side, rounding="subpixel")
        return cut[0]


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a store's files."""
    return Path(path).is_dir() and bool(entries(Path(path), "*" + SUFFIX))
