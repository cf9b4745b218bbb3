"""Training pairs from tracks, whatever stores their pixels: choose the frames and the windows of each pair."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from siamfast.data.seeds import Stream
from siamfast.data.unread import TRIES, Unread
from siamfast.data.windows import Windows, draw_recent, draw_windows


class Candidates(NamedTuple):
    """A track to draw pairs from: boxes (T, 4) x, y, w, h in frame pixels, rising frame numbers (T,), and the indices
    usable (K,) of the frames that may be drawn."""

    video: str
    boxes: NDArray[np.floating]
    numbers: NDArray[np.integer]
    usable: NDArray[np.intp]


class PairFrames(NamedTuple):
    """The frames of an item: a template frame of one track, and a search frame of the same or another one."""

    track: int
    template: int
    other: int
    search: int
    previous: int
    positive: bool


def usable_frames(
    boxes: NDArray[np.floating], sizes: NDArray[np.integer], visibility: NDArray[np.floating] | None
) -> NDArray[np.intp]:
    """Indices of the frames that siamfc-pytorch would train on: sides of 20 to 500 pixels and 1 to 50 % of the frame's,
    width to height 1/4 to 4, and a visibility of at least a tenth of the track's best.

    Args:
        boxes: (T, 4) x, y, w, h in frame pixels, nan where absent.
        sizes: (T, 2) or (2,), height and width of the frames.
        visibility: (T,) 0 to 1; None: unknown.
    """
    sides = boxes[:, 2:]
    share = sides / np.broadcast_to(sizes, (len(boxes), 2))[:, ::-1]
    aspect = sides[:, 0] / np.maximum(sides[:, 1], 1e-6)
    good = np.isfinite(boxes).all(1) & (sides >= 20).all(1) & (sides <= 500).all(1)
    good &= (share >= 0.01).all(1) & (share <= 0.5).all(1) & (aspect >= 0.25) & (aspect <= 4)
    if visibility is not None:
        good &= visibility > max(0.0, 0.1 * float(visibility.max(initial=0)))
    return np.flatnonzero(good)


class TrackPairs(Dataset[dict[str, torch.Tensor]]):
    """Pairs of crops of one target, at most `max_gap` frames apart. Item i depends on (seed, i) alone, whatever the
    number of workers. A video is drawn uniformly, so that long ones do not outweigh short ones, then one of its tracks,
    then two of its frames. Subclasses list the tracks and cut the crops.

    Args:
        tracks: of all videos; tracks of one video are never negatives of each other.
        length: number of items.
        seed: 0 or more.
        exemplar, instance: sides of the template and the search crop, pixels.
        context_amount: context around the box, as a share of w + h (0.5: the paper).
        max_gap: largest distance between the two frames.
        max_shift: largest shift of the target from the search crop's centre, in crop pixels.
        max_stretch: largest relative change of the search window's size.
        negatives: share of items with a search crop of another video's target (or of another place in the only video).
        previous: 0, or the largest distance of a third frame from the search frame. It is cropped with the search
            frame's window, like a tracker's previous frame.
        first_frames: share of items with the template's frame as the third frame, as for a tracker's second frame.
        recent: 0, or the largest distance of a third frame from the search frame. It is cropped around its own box,
            like the template.

    Raises:
        ValueError: a number outside its range; no track with a usable frame.
    """

    def __init__(
        self,
        tracks: list[Candidates],
        length: int,
        *,
        seed: int = 0,
        exemplar: int = 127,
        instance: int = 255,
        context_amount: float = 0.5,
        max_gap: int = 100,
        max_shift: float = 32.0,
        max_stretch: float = 0.08,
        negatives: float = 0.0,
        previous: int = 0,
        first_frames: float = 0.0,
        recent: int = 0,
    ) -> None:
        for name, value in (
            ("length", length),
            ("seed", seed),
            ("previous", previous),
            ("recent", recent),
            ("max_shift", max_shift),
        ):
            if value < 0:
                raise ValueError(f"{name}: got {value}, expected 0 or more")
        for name, share in (("negatives", negatives), ("first_frames", first_frames)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}: got {share}, expected a share between 0 and 1")
        self.length, self.seed, self.tracks = length, seed, tracks
        self.exemplar, self.instance, self.context_amount = exemplar, instance, context_amount
        self.max_gap, self.max_shift, self.max_stretch, self.negatives = max_gap, max_shift, max_stretch, negatives
        self.previous, self.first_frames, self.recent = previous, first_frames, recent
        self.unread = Unread()
        videos: dict[str, list[int]] = {}
        for number, track in enumerate(tracks):
            if len(track.usable):
                videos.setdefault(track.video, []).append(number)
        self._videos = list(videos.values())
        if not self._videos:
            raise ValueError(
                f"no track with a frame to train on (of {len(tracks)} tracks): visible, and not filtered out"
            )

    def crop(
        self, track: int, place: int, center: NDArray[np.float64], size: float, side: int, template: bool
    ) -> NDArray[np.uint8] | None:
        """The square window of `size` around `center`, in frame pixels from the edge of the first, in the place-th
        frame of a track, as (side, side, 3) uint8 RGB; None if the frame cannot be decoded."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """template (3, exemplar, exemplar) and search (3, instance, instance) uint8, template_box and box (4,) float32
        x, y, w, h of the target in their pixels, positive: whether the search crop shows the template's target; with
        `previous` also previous, like search, and previous_box; with `recent` also recent, like template, and
        recent_box."""
        if not 0 <= index < self.length:
            raise IndexError(f"index: got {index}, expected 0 to {self.length - 1}")
        rng = np.random.default_rng((Stream.TRACK_PAIRS, self.seed, index))
        for _ in range(TRIES):
            item = self._item(rng, self._frames(rng))
            if item is not None:
                return item
            self.unread.add()
        raise ValueError(f"{TRIES} drawn frames in a row could not be decoded; the last ones are damaged")

    def _frames(self, rng: np.random.Generator) -> PairFrames:
        positive = bool(rng.random() >= self.negatives)
        chosen = int(rng.integers(len(self._videos)))
        track = self._track(rng, chosen)
        begins = bool(self.previous and rng.random() < self.first_frames)
        template, search = self._draw_frame_pair(rng, track, self.previous if begins and positive else self.max_gap)
        other = track
        if not positive and len(self._videos) > 1:
            other = self._track(rng, (chosen + int(rng.integers(1, len(self._videos)))) % len(self._videos))
            search = int(rng.choice(self.tracks[other].usable))
        begins &= other == track and template != search
        previous = template if begins else self._draw_frame_pair(rng, other, self.previous, search)[1]
        return PairFrames(track, template, other, search, previous, positive)

    def _track(self, rng: np.random.Generator, video: int) -> int:
        return self._videos[video][int(rng.integers(len(self._videos[video])))]

    def _draw_frame_pair(
        self, rng: np.random.Generator, track: int, gap: int, first: int | None = None
    ) -> tuple[int, int]:
        """Indices of two frames at most `gap` apart; `first` may be given; they are the same only if no other is
        near."""
        _, _, numbers, usable = self.tracks[track]
        if first is None:
            first = int(rng.choice(usable))
        near = usable[np.abs(numbers[usable] - numbers[first]) <= gap]
        others = near[near != first]
        return first, int(rng.choice(others)) if len(others) else first

    def _item(self, rng: np.random.Generator, frames: PairFrames) -> dict[str, torch.Tensor] | None:
        track, other = self.tracks[frames.track], self.tracks[frames.other]
        windows = draw_windows(
            rng,
            track.boxes[frames.template],
            other.boxes[frames.search],
            exemplar=self.exemplar,
            instance=self.instance,
            context_amount=self.context_amount,
            max_shift=self.max_shift,
            max_stretch=self.max_stretch,
        )
        if not frames.positive and frames.other == frames.track:
            # With a single video: its own background, a whole search window away from the target.
            windows = windows._replace(search_center=windows.search_center + np.array([windows.search_size, 0.0]))
        crops = {
            "template": self.crop(
                frames.track, frames.template, windows.template_center, windows.template_size, self.exemplar, True
            ),
            "search": self._searched(windows, frames.other, frames.search),
        }
        boxes = {"box": other.boxes[frames.search]}
        if self.previous:
            crops["previous"] = self._searched(windows, frames.other, frames.previous)
            boxes["previous_box"] = other.boxes[frames.previous]
        boxes_in_search = {name: windows.in_search(box) for name, box in boxes.items()}
        boxes_in_search["template_box"] = windows.in_template(track.boxes[frames.template], self.exemplar)
        if self.recent:
            near = self._draw_frame_pair(
                rng, frames.track, self.recent, frames.search if frames.positive else frames.template
            )[1]
            window = draw_recent(rng, track.boxes[near], context_amount=self.context_amount)
            center, size = window.template_center, window.template_size
            crops["recent"] = self.crop(frames.track, near, center, size, self.exemplar, False)
            boxes_in_search["recent_box"] = window.in_template(track.boxes[near], self.exemplar)
        item = {"positive": torch.tensor(frames.positive)}
        for name, box in boxes_in_search.items():
            item[name] = torch.from_numpy(box.astype(np.float32))
        for name, crop in crops.items():
            if crop is None:
                return None
            item[name] = torch.from_numpy(crop).permute(2, 0, 1)
        return item

    def _searched(self, windows: Windows, track: int, place: int) -> NDArray[np.uint8] | None:
        return self.crop(track, place, windows.search_center, windows.search_size, self.instance, False)
