"""Several targets in one video, with one network: `MultiTracker`."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from siamfast.tracking.inputs import as_rgb, check_box, mean_fill
from siamfast.tracking.mobile import MobileTracker
from siamfast.tracking.mobile_targets import MobileTargets
from siamfast.tracking.sequence_tracker import Track

Id = Hashable


class MultiTracker:
    """Tracks several targets through the same frames; they come, go and change their names at any frame.

    Each target gets the boxes and confidences that a `MobileTracker` of its own would give it. One call crops all
    windows of a frame; a target is a row of a few arrays. On a CPU with onnxruntime the targets are shared out to
    threads; in PyTorch one pass of the network serves up to 16 targets, on a GPU by replaying a CUDA graph.

    Args:
        weights, device, options: as for `MobileTracker`, the default tracker; the hyper-parameters are the same for all
            targets.

    Raises:
        ValueError, TypeError, OSError: as for `MobileTracker`.

    >>> import numpy as np
    >>> frames = np.random.default_rng(0).integers(0, 256, (3, 120, 160, 3), dtype=np.uint8)
    >>> tracker = MultiTracker().add(frames[0], {"cup": (60, 40, 30, 20), "hand": (10, 10, 40, 40)})
    >>> tracks = tracker.update(frames[1])
    >>> box, confidence = tracks["cup"]
    >>> tracker.remove("hand").add(frames[1], {7: (100, 50, 20, 20)}).ids
    ('cup', 7)
    >>> sorted(map(str, tracker.update(frames[2])))
    ['7', 'cup']
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device = "auto",
        **options: Any,
    ) -> None:
        tracker = MobileTracker(weights, device=device, **options)
        self.device, self.precision, self.engine = tracker.device, tracker.precision, tracker.engine
        self._targets = MobileTargets(tracker.runner, tracker.config)
        self._ids: list[Id] = []

    @property
    def ids(self) -> tuple[Id, ...]:
        """The targets' ids, in the order in which they were added."""
        return tuple(self._ids)

    @property
    def lost(self) -> frozenset[Id]:
        """The ids of targets that were not found in the last frame; they are searched further and further away."""
        return frozenset(name for name, lost in zip(self._ids, self._targets.lost, strict=True) if lost)

    def add(self, image: Any, boxes: Mapping[Any, ArrayLike]) -> MultiTracker:
        """Take more targets from a frame; the next `update` is for the frame after it.

        Args:
            image: RGB, (H, W, 3) uint8 array or PIL image.
            boxes: id -> x, y, w, h in 0-based pixels; an id is anything that can be a key of a dictionary.

        Returns:
            The tracker itself.

        Raises:
            ValueError: an id that is tracked already; a box without area or outside the image. Nothing is added then.
            TypeError: not an image, or boxes without ids.
        """
        if not isinstance(boxes, Mapping):
            raise TypeError(f"boxes: got {type(boxes).__name__}, expected a dictionary of id -> x, y, w, h")
        if not boxes:
            return self
        frame = as_rgb(image)
        height, width = frame.shape[:2]
        checked = []
        for name, box in boxes.items():
            if name in self._ids:
                raise ValueError(f"boxes: got id {name!r}, which is tracked already; remove it first")
            try:
                checked.append(check_box(box, width, height))
            except ValueError as error:
                raise ValueError(f"boxes: id {name!r}: {error}") from None
        self._targets.add(frame, np.array(checked), mean_fill(frame))
        self._ids += boxes
        return self

    def remove(self, *ids: Any) -> MultiTracker:
        """Stop tracking targets.

        Raises:
            ValueError: an id that is not tracked. Nothing is removed then.
        """
        gone = [self._row(name) for name in ids]
        rows = np.setdiff1d(np.arange(len(self._ids)), np.array(gone, int))
        self._targets.keep(rows)
        self._ids = [self._ids[row] for row in rows]
        return self

    def rename(self, old: Any, new: Any) -> MultiTracker:
        """Give a target another id.

        Raises:
            ValueError: `old` is not tracked, or `new` is. TypeError: `new` cannot be an id.
        """
        row = self._row(old)
        try:
            hash(new)
        except TypeError:
            raise TypeError(f"new: got {new!r}, expected an id that can be hashed") from None
        if new != old and new in self._ids:
            raise ValueError(f"new: got id {new!r}, which is tracked already")
        self._ids[row] = new
        return self

    def update(self, image: Any) -> dict[Any, Track]:
        """Find all targets in the next frame.

        Args:
            image: RGB, (H, W, 3) uint8 array or PIL image.

        Returns:
            id -> box x, y, w, h in 0-based pixels and confidence, 0 to 1; empty without targets.

        Raises:
            TypeError, ValueError: not an image.
        """
        targets = self._targets
        targets.update(as_rgb(image))
        rows = zip(self._ids, targets.boxes.tolist(), targets.confidence.tolist(), strict=True)
        return {name: Track((x, y, w, h), confidence) for name, (x, y, w, h), confidence in rows}

    def _row(self, name: Any) -> int:
        if name not in self._ids:
            raise ValueError(f"ids: got {name!r}, expected one of {', '.join(map(repr, self._ids)) or 'no ids'}")
        return self._ids.index(name)
