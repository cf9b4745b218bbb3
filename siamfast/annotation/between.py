"""Track targets between their key frames, forwards and backwards, frame by frame of a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamfast.annotation.blend import Array, Way, blend
from siamfast.annotation.boxes import LABEL, Box
from siamfast.io.frames import Frames
from siamfast.io.images import Image
from siamfast.io.kept_frames import KeptFrames
from siamfast.tracking.inputs import check_box
from siamfast.tracking.sequence_tracker import SequenceTracker, Track

_PIECE = 100  # frames of a target that is tracked forwards only, after which they are complete


class Stretch(NamedTuple):
    """A target from one key to the next, both included, or on one side of its only key.

    frames: (n,) the decoded ones. boxes: (n, 4) x, y, w, h, and confidences: (n,), those of `blend`, or of the tracker
    where it was tracked one way only. forward, backward: (n, 4) as tracked; None for a way that was not.
    A frame where the target is absent is a stretch of its own, with a box of zeros.
    """

    target: int
    label: str
    frames: NDArray[np.int64]
    boxes: Array
    confidences: Array
    forward: Array | None = None
    backward: Array | None = None

    def records(self) -> list[Box]:
        """A Box for each frame."""
        return [
            Box(frame, self.target, x, y, w, h, self.label, sure)
            for frame, (x, y, w, h), sure in zip(
                self.frames.tolist(), self.boxes.tolist(), self.confidences.tolist(), strict=True
            )
        ]


class _Target:
    """A target's keys that are still ahead, and the way since the last one; `tracker` is None where it is absent."""

    def __init__(self, keys: list[Box]) -> None:
        self.keys = list(keys)
        self.number = keys[0].target
        self.label = next((key.label for key in keys if not key.absent), LABEL)  # a record of absence may have none
        self.tracker: SequenceTracker | None = None
        self.first: Box | None = None  # the last key; None before all keys
        self.begun: Image | None = None  # the last key's image, until the tracker is needed
        self.frames: list[int] = []
        self.tracks: list[Track] = []
        self.is_new = True  # no frame was read yet
        self.is_absent = False  # by its last key

    @property
    def returns(self) -> bool:
        """Whether it may be tracked backwards over the frames since its last key."""
        return any(not key.absent for key in self.keys)

    def begin(self, tracker: SequenceTracker, index: int, image: Image, key: Box | None) -> None:
        self.tracker, self.first, self.frames, self.is_absent = tracker, key, [index], False
        self.tracks = [Track(key.sides, 1.0)] if key is not None else []
        self.begun = image if key is not None else None

    def update(self, image: Image) -> Track:
        """Track into the next frame. The tracker begins only here: where every frame has a key none is needed."""
        assert self.tracker is not None
        if self.begun is not None:
            assert self.first is not None
            self.tracker.init(self.begun, self.first.sides)
            self.begun = None
        return self.tracker.update(image)

    def rest(self) -> Iterator[Stretch]:
        """What was tracked forwards since the last key and will not be tracked backwards, once."""
        if self.first is not None and self.frames:
            yield self.one_way(self.tracks, self.frames, forward=True)
        self.frames, self.tracks = [], []

    def absence(self, index: int) -> Stretch:
        return Stretch(self.number, self.label, np.array([index]), np.zeros((1, 4)), np.ones(1))

    def one_way(self, tracks: list[Track], frames: list[int], *, forward: bool | None = None) -> Stretch:
        """forward: None where nothing was tracked."""
        way = _way(tracks)
        ways = {} if forward is None else {"forward" if forward else "backward": way.boxes}
        return Stretch(self.number, self.label, np.array(frames), *way, **ways)


def _way(tracks: list[Track]) -> Way:
    return Way(np.array([track.box for track in tracks], float), np.array([track.confidence for track in tracks]))


class Annotator:
    """Fills the frames between the key frames of any number of targets.

    One pass over the video: each target is tracked forwards; when its next key comes, backwards from there over the
    frames since the last key, which are kept until then, and `blend` joins both. Targets with keys in the same frames
    share the frames' decoding. A record of absence ends a target until its next key.

    Args:
        keys: `by_target` of the key frames' boxes.
        make_tracker: makes a tracker; called once here, later as often as targets are present at a time.
        extend: also track backwards from a target's first key to the start and forwards from its last to the end.
        notice: called with a line for each key that cannot be used; the target's other keys are.
    """

    def __init__(
        self,
        keys: dict[int, list[Box]],
        make_tracker: Callable[[], SequenceTracker],
        *,
        extend: bool = False,
        notice: Callable[[str], None] = print,
    ) -> None:
        self._targets = [_Target(own) for own in keys.values()]
        self._make_tracker, self._free = make_tracker, [make_tracker()]  # one now: weights may be wrong
        self._extend, self._notice = extend, notice

    def run(self, frames: Frames, kept: KeptFrames, progress: Callable[[int, str], object]) -> Iterator[Stretch]:
        """Iterate over the stretches, each as soon as it is complete.

        Args:
            frames: the source. kept: empty; it has the frames of a stretch until the next one is asked for.
            progress: called with the index of a frame that is done, and what is done.

        Raises:
            ValueError: no frames. OSError: no room for the frames that are kept.
        """
        last = -1
        for index, image in frames:
            height, width = image.shape[:2]
            if last >= 0 and kept.size != (width, height):  # boxes would be in two kinds of pixels
                before = "{} x {}".format(*kept.size)
                self._notice(f"frame {index}: {width} x {height} pixels, before it {before}; annotated up to there")
                break
            last = index
            kept.add(index, image)
            closing: list[tuple[_Target, Box]] = []
            for target in self._targets:
                yield from self._forward(target, index, image, closing)
            if closing:
                yield from self._backward(closing, index, image, kept, progress)
            present = [target for target in self._targets if target.tracker is not None]
            for target in present:
                if not target.returns and len(target.frames) >= _PIECE:
                    yield from target.rest()
            needed = [target.frames[0] for target in present if target.frames]
            kept.drop_before(min(needed, default=index + 1))
            progress(index, "forward")
        if last < 0:
            raise ValueError(f"{frames.name}: no frames in it")
        for target in self._targets:
            for key in target.keys:
                self._refuse(key, f"is beyond the video's end (its last frame is {last})")
            if target.tracker is not None:
                yield from target.rest()

    def _refuse(self, key: Box, why: str) -> None:
        self._notice(f"target {key.target}, frame {key.frame}: the key frame {why}; left out")

    def _key(self, target: _Target, index: int, image: Image) -> Box | None:
        """The target's key in this frame, or None; a box outside the image becomes absence."""
        while target.keys and target.keys[0].frame < index:
            self._refuse(target.keys.pop(0), "cannot be decoded")
        if not target.keys or target.keys[0].frame != index:
            return None
        key = target.keys.pop(0)
        if not key.absent:
            try:
                check_box(key.sides, image.shape[1], image.shape[0])
            except ValueError as error:
                self._notice(f"target {key.target}, frame {index}: {error}; taken as absent there")
                return key._replace(x=0.0, y=0.0, w=0.0, h=0.0)
        return key

    def _forward(
        self, target: _Target, index: int, image: Image, closing: list[tuple[_Target, Box]]
    ) -> Iterator[Stretch]:
        """Track into this frame; those with a key here, from which they are tracked back, are added to `closing`."""
        is_new, target.is_new = target.is_new, False
        if is_new and self._extend and target.keys[0].frame > index and not target.keys[0].absent:
            target.begin(self._tracker(), index, image, None)
            return
        key = self._key(target, index, image)
        last = not target.keys and not self._extend
        if key is not None and key.absent:
            target.is_absent = True
            if target.tracker is not None:
                yield from self._end(target)
        if target.is_absent and (key is None or key.absent):
            if key is not None or not last:
                yield target.absence(index)
            return
        if target.tracker is None:
            if key is not None:
                target.begin(self._tracker(), index, image, key)
                if last:
                    yield from self._end(target)
            return
        if key is None and last:
            yield from self._end(target)
            return
        if key is not None and target.first is not None and target.first.frame == index - 1:
            yield target.one_way([Track(target.first.sides, 1.0), Track(key.sides, 1.0)], [index - 1, index])
            self._begin_anew(target, index, image, key)
            return
        target.frames.append(index)
        if target.first is not None:
            target.tracks.append(target.update(image))
        if key is not None:
            closing.append((target, key))

    def _tracker(self) -> SequenceTracker:
        return self._free.pop() if self._free else self._make_tracker()

    def _leave(self, target: _Target) -> None:
        assert target.tracker is not None
        self._free.append(target.tracker)
        target.tracker = None

    def _end(self, target: _Target) -> Iterator[Stretch]:
        self._leave(target)
        yield from target.rest()

    def _backward(
        self,
        closing: list[tuple[_Target, Box]],
        index: int,
        image: Image,
        kept: KeptFrames,
        progress: Callable[[int, str], object],
    ) -> Iterator[Stretch]:
        """Track back from the keys in this frame, all targets at once; then begin anew from the keys."""
        backs = {target.number: [Track(key.sides, 1.0)] for target, key in closing}
        for target, key in closing:
            assert target.tracker is not None
            target.tracker.init(image, key.sides)
        earliest = min(target.frames[0] for target, _ in closing)
        for before in reversed(kept.indices(earliest)[:-1]):
            earlier = kept.read(before)
            for target, _ in closing:
                if before >= target.frames[0]:
                    assert target.tracker is not None
                    backs[target.number].append(target.tracker.update(earlier))
            progress(index, f"back to {before}")
        for target, key in closing:
            back = backs[target.number][::-1]
            if target.first is None:
                yield target.one_way(back, target.frames, forward=False)
            else:
                yield _joined(target, back)
            self._begin_anew(target, index, image, key)

    def _begin_anew(self, target: _Target, index: int, image: Image, key: Box) -> None:
        assert target.tracker is not None
        target.begin(target.tracker, index, image, key)
        if not target.keys and not self._extend:
            self._leave(target)


def _joined(target: _Target, back: list[Track]) -> Stretch:
    frames = np.array(target.frames)
    forward, backward = _way(target.tracks), _way(back)
    blended = blend(forward, backward, (frames - frames[0]) / (frames[-1] - frames[0]))
    return Stretch(target.number, target.label, frames, *blended, forward.boxes, backward.boxes)
