"""Targets that are taken up and given up at frames of a video: what `siamfast track` follows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from siamfast.tracking.inputs import Box
from siamfast.tracking.sequence_tracker import SequenceTracker, Track

if TYPE_CHECKING:
    from siamfast.io.frames import Frames
    from siamfast.io.images import Image
    from siamfast.tracking.multi import MultiTracker


_LAST = 10_000  # updates whose times are kept: a camera has no end


class Change(NamedTuple):
    """A target is taken up at a frame, or, without a box, given up."""

    frame: int
    target: int
    box: Box | None


class Alone:
    """A tracker of one target, used like a MultiTracker."""

    def __init__(self, tracker: SequenceTracker) -> None:
        self.tracker = tracker
        self.precision, self.device = tracker.precision, tracker.device
        self._target: int | None = None

    def add(self, image: Image, boxes: dict[int, Box]) -> None:
        ((self._target, box),) = boxes.items()
        self.tracker.init(image, box)

    def remove(self, target: int) -> None:
        self._target = None

    @property
    def lost(self) -> frozenset[int]:
        return frozenset() if self._target is None or not self.tracker.lost else frozenset((self._target,))

    def update(self, image: Image) -> dict[int, Track]:
        return {} if self._target is None else {self._target: self.tracker.update(image)}


class Course:
    """One pass through a video's frames with targets that change on the way.

    Frames of another size than the first one's, as of a stream that changes it, are resized for the tracker; boxes are
    in each frame's own pixels.

    targets: those that were taken up. problems: a line per target that could not be. sizes: a line per change of the
    frames' size, the first ten. lost: the number of tracks of lost targets. seconds: of the tracker's last 10,000
    updates. latencies: seconds from a frame's arrival to its boxes; the updates' where frames are read on demand.

    Args:
        tracker: a MultiTracker, or a tracker of one target as `Alone`.
        changes: by frames, counted from 0; a change at a frame that cannot be decoded is made at the next one.
    """

    def __init__(self, tracker: MultiTracker | Alone, changes: list[Change]) -> None:
        self.tracker, self._changes = tracker, list(changes)
        self.targets: set[int] = set()
        self.problems: list[str] = []
        self.sizes: list[str] = []
        self._size, self._last_size = (0, 0), (0, 0)  # (width, height) of the first frame, and of the last one
        self.lost = 0
        self.seconds: deque[float] = deque(maxlen=_LAST)
        self.latencies: deque[float] = deque(maxlen=_LAST)

    def follow(
        self, frames: Frames, first_box: Callable[[Image], Box] | None = None
    ) -> Iterator[tuple[int, Image, dict[int, Track]]]:
        """Index, image and tracks of each frame; a target's first track is its box as given.

        Args:
            frames: the video. first_box: asked for the only target's box in the first frame if there are no changes.

        Raises:
            ValueError: the box of an only target cannot be tracked, or none of several can.
        """
        for number, (index, image) in enumerate(frames):
            if number == 0:
                self._size = self._last_size = (image.shape[1], image.shape[0])
            if number == 0 and first_box is not None and not self._changes:
                self._changes = [Change(0, 1, first_box(image))]
            tracks: dict[int, Track] = {}
            if number:
                begin = time.perf_counter()
                tracks = self._in_pixels_of(image, self.tracker.update(self._resized(image, index)))
                end = time.perf_counter()
                self.lost += len(self.tracker.lost)
                self.seconds.append(end - begin)
                self.latencies.append(end - (begin if frames.arrived is None else frames.arrived))
            while self._changes and self._changes[0].frame <= index:
                self._change(self._changes.pop(0), image, tracks)
            if self.problems and not self.targets and all(change.box is None for change in self._changes):
                break  # nothing to track in the rest, which may have no end
            yield index, image, tracks
        late = (change for change in self._changes if change.box is not None)
        self.problems += [f"target {c.target}: starts at frame {c.frame}, after the last one" for c in late]
        if self.problems and not self.targets:
            raise ValueError("; ".join(self.problems))

    def _change(self, change: Change, image: Image, tracks: dict[int, Track]) -> None:
        """Take up a target, or give it up; a box that cannot be tracked is an error if it is the only one."""
        if change.box is None:
            if tracks.pop(change.target, None) is not None:
                self.tracker.remove(change.target)
            return
        try:
            x, y, w, h = change.box
            right, down = self._scale(image)
            self.tracker.add(self._resized(image), {change.target: (x / right, y / down, w / right, h / down)})
        except ValueError as error:
            if isinstance(self.tracker, Alone):
                raise
            reason = str(error).partition(f"id {change.target}: ")[2] or str(error)
            self.problems.append(f"target {change.target}, frame {change.frame}: {reason}")
            return
        tracks[change.target] = Track(change.box, 1.0)
        self.targets.add(change.target)

    def _scale(self, image: Image) -> tuple[float, float]:
        return image.shape[1] / self._size[0], image.shape[0] / self._size[1]

    def _resized(self, image: Image, index: int | None = None) -> Image:
        """The image in the first one's size; `index`: of a new frame, whose size is noted."""
        size = (image.shape[1], image.shape[0])
        if index is not None and size != self._last_size:
            if len(self.sizes) < 10:  # a stream has no end
                self.sizes.append("frame {}: {} x {} pixels, before it {} x {}".format(index, *size, *self._last_size))
            self._last_size = size
        if size == self._size:
            return image
        return np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)

    def _in_pixels_of(self, image: Image, tracks: dict[int, Track]) -> dict[int, Track]:
        right, down = self._scale(image)
        if (right, down) == (1.0, 1.0):
            return tracks
        return {
            target: Track((x * right, y * down, w * right, h * down), confidence)
            for target, ((x, y, w, h), confidence) in tracks.items()
        }

    def select(self, image: Image, box: Box) -> None:
        """Take up the target again at a box drawn by the user, or, where there are several, one more."""
        taken = self.targets | {change.target for change in self._changes}
        target = max(taken, default=0) + 1 if not isinstance(self.tracker, Alone) else 1
        self._change(Change(0, target, box), image, {})

    @property
    def speed(self) -> str:
        """Frames per second and latencies, in words."""
        if not self.seconds:
            return "one frame"
        middle, late = 1e3 * np.percentile(self.latencies, (50, 99))
        rate = len(self.seconds) / sum(self.seconds)
        return f"{rate:.1f} FPS in the tracker, latency {middle:.1f} ms (p50), {late:.1f} ms (p99)"
