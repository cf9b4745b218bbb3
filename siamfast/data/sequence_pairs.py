"""Training pairs from annotated frames on disk, in any layout that `siamfast curate` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamfast.data.pairs import Candidates, TrackPairs, usable_frames
from siamfast.data.readers import read_videos
from siamfast.data.sequences import Sequence, read_sequences
from siamfast.geometry import edge_to_index
from siamfast.io.images import image_size, read_image
from siamfast.ops.crop_and_resize import crop_and_resize


class SequencePairs(TrackPairs):
    """Pairs of frames of one target, see `TrackPairs`. Every item decodes whole frames; a curated store loads several
    times as fast.

    Args:
        root: a data set; with kind "folder" also one sequence.
        length, options: as for TrackPairs.
        kind: its layout, one of `siamfast.data.readers.LAYOUTS`.
        filter: draw only `usable_frames`; else any frame that shows the target.

    Raises:
        ValueError: no such data set, no usable frames in it, or one frame after another cannot be decoded.

    >>> pairs = SequencePairs("sequences", 1000)  # doctest: +SKIP
    >>> pairs[0]["search"].shape  # doctest: +SKIP
    torch.Size([3, 255, 255])
    """

    def __init__(
        self, root: str | Path, length: int, *, kind: str = "folder", filter: bool = True, **options: Any
    ) -> None:
        if kind == "folder":
            videos: list[tuple[Sequence, ...]] = [(s,) for s in read_sequences(root)]
        else:  # unreadable files are left out, as in a curated store
            videos = list(read_videos(kind, root, lambda path, reason: None))
        self._sequences = [sequence for video in videos for sequence in video]
        tracks = [
            Candidates(str(number), s.boxes, np.arange(len(s)), _usable(s, filter))
            for number, video in enumerate(videos)
            for s in video
        ]
        try:
            super().__init__(tracks, length, **options)
        except ValueError as error:
            raise ValueError(f"root: {str(root)!r}: {error}") from None

    def crop(
        self, track: int, place: int, center: NDArray[np.float64], size: float, side: int, template: bool
    ) -> NDArray[np.uint8] | None:
        try:
            image = read_image(self._sequences[track].frames[place])
        except (ValueError, OSError):
            return None
        # The window is not rounded, so the box stays exact in the crop.
        pixels: NDArray[np.uint8] = crop_and_resize(image, edge_to_index(center), size, side, rounding="subpixel")
        return pixels[0]


def _usable(sequence: Sequence, filter: bool) -> NDArray[np.intp]:
    boxes = np.asarray(sequence.boxes)
    visible = np.flatnonzero(np.isfinite(boxes).all(1) & (boxes[:, 2:] >= 1).all(1))
    size = _frame_size(sequence) if filter and len(visible) else None
    return visible if size is None else usable_frames(boxes, np.array(size), sequence.visibility)


def _frame_size(sequence: Sequence) -> tuple[int, int] | None:
    """Height and width from the first readable image header; all frames of a video have one size."""
    for frame in sequence.frames:
        try:
            return image_size(frame)
        except (ValueError, OSError):
            continue
    return None
