"""Training pairs from a store of curated crops: no frame is decoded, two small JPEGs are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from siamfast.data.store import CropStore, Track
from siamfast.ops.crop_and_resize import crop_and_resize


def usable_frames(track: Track) -> NDArray[np.intp]:
    """Places of the frames that siamfc-pytorch would train on: sides of 20 to 500 pixels and 1 to 50 % of the frame's,
    width to height 1/4 to 4, seen to a tenth or more of what it is at best."""
    sides = track.boxes[:, 2:] / track.scales[:, None]
    share = sides / track.sizes[:, ::-1]
    aspect = sides[:, 0] / np.maximum(sides[:, 1], 1e-6)
    good = (sides >= 20).all(1) & (sides <= 500).all(1) & (share >= 0.01).all(1) & (share <= 0.5).all(1)
    good &= (aspect >= 0.25) & (aspect <= 4)
    good &= track.visibility > max(0.0, 0.1 * float(track.visibility.max(initial=0)))
    return np.flatnonzero(good)


class StorePairs(Dataset[dict[str, torch.Tensor]]):
    """Pairs of crops of one target, at most `max_gap` frames apart, from a store that `siamfast curate` made.

    Item i depends on (seed, i) alone, whatever the number of workers. A video is drawn uniformly, one of its tracks,
    then two frames of it.

    Args:
        folder: the store.
        length: number of items.
        seed: 0 or more.
        exemplar, instance: sides of the crops, pixels; the store's own exemplar, and at most its instance side.
        max_gap: largest distance of the two frames.
        max_shift: largest shift of the target from the search crop's centre, in crop pixels; what lies beyond the
            stored crop is its mean. Curate with a larger `--instance` to have it all.
        max_stretch: largest relative change of the search crop's size.
        negatives: share of items whose search crop is of another video's target.
        filter: leave out frames by `usable_frames`.

    Raises:
        ValueError: no store; other sides than it has; no track with two usable frames.

    >>> StorePairs("curated", 1000)[0]["search"].shape  # doctest: +SKIP
    torch.Size([3, 255, 255])
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        length: int,
        *,
        seed: int = 0,
        exemplar: int = 127,
        instance: int = 255,
        max_gap: int = 100,
        max_shift: float = 32.0,
        max_stretch: float = 0.08,
        negatives: float = 0.0,
        filter: bool = True,
    ) -> None:
        if length < 0 or seed < 0:
            raise ValueError(f"length, seed: got {length}, {seed}, expected 0 or more")
        self.store = CropStore(folder)
        made = self.store.meta
        if exemplar != made["exemplar"]:
            raise ValueError(f"exemplar: got {exemplar}, but the store {folder} has crops of {made['exemplar']} pixels")
        if instance > made["instance"]:
            raise ValueError(f"instance: got {instance}, but the store {folder} has crops of {made['instance']} pixels")
        self.length, self.seed, self.instance = length, seed, instance
        self.max_gap, self.max_shift, self.max_stretch, self.negatives = max_gap, max_shift, max_stretch, negatives
        self._frames = [usable_frames(t) if filter else np.arange(len(t.frames)) for t in self.store.tracks]
        videos: dict[str, list[int]] = {}
        for number, track in enumerate(self.store.tracks):
            if len(self._frames[number]) >= 2:
                videos.setdefault(track.video, []).append(number)
        self._videos = list(videos.values())
        if not self._videos:
            raise ValueError(
                f"store: {folder} has no track with two usable frames (of {len(self.store.tracks)} tracks)"
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """As SyntheticPairs: template, search (3, S, S) uint8 RGB, box (4,) in the search crop, positive."""
        if not 0 <= index < self.length:
            raise IndexError(f"index: got {index}, expected 0 to {self.length - 1}")
        rng = np.random.default_rng((3, self.seed, index))
        number, first, second = self._draw(rng)
        positive = bool(rng.random() >= self.negatives)
        other = number
        if not positive:
            other, second, _ = self._draw(rng, avoid=number)
        template = self.store.crop(self.store.tracks[number], first, "z")
        search, box = self._search(rng, self.store.tracks[other], second)
        return {
            "template": torch.from_numpy(template).permute(2, 0, 1),
            "search": torch.from_numpy(search).permute(2, 0, 1),
            "box": torch.from_numpy(box),
            "positive": torch.tensor(positive),
        }

    def _draw(self, rng: np.random.Generator, avoid: int | None = None) -> tuple[int, int, int]:
        """A track and two of its usable frames; not of `avoid`'s video where there is another."""
        videos = [v for v in self._videos if avoid not in v] or self._videos if avoid is not None else self._videos
        tracks = videos[int(rng.integers(len(videos)))]
        number = tracks[int(rng.integers(len(tracks)))]
        frames = self._frames[number]
        first = int(rng.integers(len(frames)))
        numbers = self.store.tracks[number].frames[frames]
        near = np.flatnonzero(np.abs(numbers - numbers[first]) <= self.max_gap)
        return number, int(frames[first]), int(frames[int(rng.choice(near))])

    def _search(
        self, rng: np.random.Generator, track: Track, index: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The instance crop, moved and stretched: (instance, instance, 3) and the target's box in it."""
        stored = self.store.crop(track, index, "x")
        side = self.instance * float(np.exp(rng.uniform(-self.max_stretch, self.max_stretch)))
        # A quarter is not moved: the target of a slow video is where it was.
        shift = np.zeros(2) if rng.random() < 0.25 else rng.uniform(-self.max_shift, self.max_shift, 2)
        middle = (stored.shape[0] - 1) / 2
        scale = self.instance / side
        center = middle - shift / scale
        crop = crop_and_resize(stored, center, side, self.instance, rounding="subpixel")[0]
        x, y, w, h = track.boxes[index]
        corner = center + 0.5 - side / 2
        box = np.array([(x - corner[0]) * scale, (y - corner[1]) * scale, w * scale, h * scale], np.float32)
        return crop, box


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a store's files."""
    return Path(path).is_dir() and any(Path(path).glob("*.lmdb"))
