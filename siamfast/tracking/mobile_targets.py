"""The targets of a mobile tracker, one or many: their state in arrays, and one step of tracking for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.geometry import box_centers, box_centers_by_index, boxes_around, cell_coverage, index_to_edge
from siamfast.models.mobile import EXEMPLAR, SiamMobile
from siamfast.models.mobile_engine import Engine, Search
from siamfast.ops.crop_and_resize import crop_and_resize
from siamfast.ops.siamfc_crops import context_size
from siamfast.tracking.anchor_free import Choice, choose, hann_window
from siamfast.tracking.mobile_config import MobileTrackerConfig

Array = NDArray[np.float64]

# Where a lost target is searched: places in rings around the last one, this share of a search crop's side apart, taken
# in turn. Twelve rings are about 24 sides of the target.
LOST_STEP, _RINGS = 0.75, 12
LOST_PLACES = sorted(
    ((x, y) for x in range(-_RINGS, _RINGS + 1) for y in range(-_RINGS, _RINGS + 1) if x or y),
    key=lambda place: (max(abs(place[0]), abs(place[1])), (3 * place[0] + 5 * place[1]) % 8),
)


_ROWS = ("boxes", "confidence", "lost", "quality", "_fill", "_first_resemblance", "_stretch", "_shift", "_turn")


class MobileTargets:
    """Targets that are tracked through the same frames; row i of each array is target i.

    boxes: (M, 4) x, y, w, h in frame pixels. confidence: (M,) 0 to 1. lost: (M,) bool, whether the target was neither
    at its last place nor at those searched besides. quality: (M, h, w), scores times centre-ness of the last frame.

    Args:
        engine: the network, with the templates and regions of the same rows; emptied here.
        config: the hyper-parameters, the same for all.
    """

    def __init__(self, engine: Engine, config: MobileTrackerConfig) -> None:
        self.engine, self.config = engine, config
        cells = SiamMobile.cells(config.instance)
        self._window = hann_window(cells)
        self._cells = index_to_edge(SiamMobile.places(config.instance).double().numpy())
        self.boxes, self.confidence, self.lost = np.empty((0, 4)), np.empty(0), np.empty(0, bool)
        self.quality = np.empty((0, cells, cells), np.float32)
        self._fill = np.empty((0, 3))  # the mean of the first frame, beyond the frame's edges
        self._first_resemblance = np.empty(0)
        self._stretch, self._shift = np.empty((0, 2)), np.empty((0, 2))  # calibration of sides and middle
        self._turn = np.empty(0, int)  # the last place searched of LOST_PLACES; -1: not lost
        engine.keep(np.empty(0, int))

    def __len__(self) -> int:
        return len(self.boxes)

    def add(self, frame: NDArray[np.uint8], boxes: Array, fill: Array) -> None:
        """Append targets.

        Args:
            frame: (H, W, 3) RGB. boxes: (K, 4), checked. fill: (3,) the frame's mean colour.
        """
        old, count = len(self), len(boxes)
        rows = np.arange(old, old + count)
        c = self.config
        self.boxes = np.concatenate([self.boxes, boxes])
        self._fill = np.concatenate([self._fill, np.broadcast_to(fill, (count, 3))])
        self._stretch = np.concatenate([self._stretch, np.ones((count, 2))])
        self._shift = np.concatenate([self._shift, np.zeros((count, 2))])
        self._turn = np.concatenate([self._turn, np.full(count, -1)])
        self.confidence = np.concatenate([self.confidence, np.ones(count)])
        self.lost = np.concatenate([self.lost, np.zeros(count, bool)])
        self.quality = np.concatenate([self.quality, np.zeros((count, *self._window.shape), np.float32)])
        scale = self._scales(rows)
        pixels = self._uploaded(frame)
        crops = self._crops(pixels, rows, self.boxes[rows], EXEMPLAR)
        self.engine.add(crops, boxes_around(np.full((count, 2), EXEMPLAR / 2), boxes[:, 2:] * scale))
        best, search = self._search(pixels, rows, self.boxes[rows])
        first = np.maximum(self._resemblance(best, search), 1e-6)
        self._first_resemblance = np.concatenate([self._first_resemblance, first])
        if c.calibrate:
            self._stretch[rows] = np.clip(boxes[:, 2:] * scale / best.box[:, 2:], 0.5, 2.0) ** c.calibrate
            off = np.clip((c.instance / 2 - box_centers(best.box)) / best.box[:, 2:], -0.5, 0.5)
            self._shift[rows] = off * c.calibrate

    def keep(self, rows: NDArray[np.int_]) -> None:
        """Keep these targets, in this order, and drop the others."""
        for name in _ROWS:
            setattr(self, name, getattr(self, name)[rows])
        self.engine.keep(rows)

    def update(self, frame: NDArray[np.uint8]) -> None:
        """Find all targets in the next frame, (H, W, 3) RGB."""
        c, rows = self.config, np.arange(len(self))
        if not len(rows):
            return
        pixels = self._uploaded(frame)
        best, search = self._search(pixels, rows, self.boxes)
        lost = best.quality < c.lost_confidence
        self._turn[~lost] = -1
        if lost.any():
            self._search_around(pixels, best, search, np.flatnonzero(lost))
        self.lost = best.quality < c.lost_confidence
        self.quality = search.quality
        # Calibrated: x, y of the middle and the sides, search-crop pixels.
        middle = box_centers(best.box) + best.box[:, 2:] * self._shift
        sides = best.box[:, 2:] * self._stretch
        sure = np.flatnonzero(best.quality >= c.guide_confidence)
        if c.guide != "off" and len(sure):
            beside = sides * [1, 0] if c.guide == "wrong" else np.zeros_like(sides)
            regions = boxes_around(middle + beside, sides)[sure]
            self.engine.remember(sure, [search.embedding[i] for i in sure], regions)
        scale = self._scales(rows)
        # What is in the place of a target that is hidden has another size.
        rate = np.where(self.lost, 0.0, best.penalty * best.quality * c.size_lr)[:, None]
        size = (self.boxes[:, 2:] * scale * (1 - rate) + sides * rate) / scale
        place = box_centers(self.boxes) + (middle - c.instance / 2) / scale
        height, width = frame.shape[:2]
        place = np.clip(place, 0.0, [width, height])
        size = np.clip(size, c.min_side, [max(width, c.min_side), max(height, c.min_side)])
        self.boxes = boxes_around(place, size)
        resemblance = np.minimum(1.0, self._resemblance(best, search) / self._first_resemblance)
        self.confidence = (self.confidence + best.quality * resemblance) / 2

    def _uploaded(self, frame: NDArray[np.uint8]) -> Any:
        """The frame where the engine wants its crops from: the array, or a tensor on the engine's device."""
        if self.engine.uploads is None:
            return frame
        return torch.from_numpy(np.ascontiguousarray(frame)).to(self.engine.uploads, non_blocking=True)

    def _search(self, frame: Any, rows: NDArray[np.int_], boxes: Array) -> tuple[Choice, Search]:
        """The best cells around `boxes` (K, 4), places of the targets in `rows`, not calibrated; and the network's
        output there."""
        c, scale = self.config, self._scales(rows)
        search = self.engine.search(self._crops(frame, rows, boxes, c.instance), rows, guided=c.guide != "off")
        best = choose(
            search.quality,
            search.boxes,
            boxes[:, 2:] * scale,
            self._window,
            influence=c.window_influence,
            penalty_k=c.penalty_k,
            stretch=self._stretch[rows],
        )
        return best, search

    def _search_around(self, frame: Any, best: Choice, search: Search, lost: NDArray[np.int_]) -> None:
        """Search beside the last places of the lost targets; where one is there, move its box, and put its results into
        `best` and `search`."""
        tries = np.zeros(len(self), int)
        for _ in range(self.config.places_per_frame):
            places = {int(row): box for row in lost if (box := self._next_place(row, tries, frame)) is not None}
            if not places:
                return
            rows, boxes = np.array(list(places)), np.array(list(places.values()))
            other_best, other_search = self._search(frame, rows, boxes)
            there = other_best.quality >= self.config.found_confidence
            to = rows[there]
            self.boxes[to] = boxes[there]
            for results, others in ((best, other_best), (search[:3], other_search[:3])):
                _put(results, others, to, there)
            for row, at in zip(to, np.flatnonzero(there), strict=True):
                search.embedding[row] = other_search.embedding[at]
            lost = np.setdiff1d(lost, to)

    def _next_place(self, row: int, tries: NDArray[np.int_], frame: Any) -> Array | None:
        """The target's box at the next place in turn whose middle is in the frame; None once all were tried."""
        step = LOST_STEP * self.config.instance / self._scales(np.array([row])).item()
        height, width = frame.shape[:2]
        while tries[row] < len(LOST_PLACES):
            tries[row] += 1
            self._turn[row] = (self._turn[row] + 1) % len(LOST_PLACES)
            box = self.boxes[row] + np.append(np.multiply(LOST_PLACES[self._turn[row]], step), [0, 0])
            x, y = box_centers(box)
            if 0 <= x < width and 0 <= y < height:
                return box
        return None

    def _resemblance(self, best: Choice, search: Search) -> Array:
        """(K,) mean resemblance of the cells of a box to the template's target, 0 to 1. The guide has no part in it:
        once it is on another object, it would confirm that object."""
        left, top, w, h = best.box.T[..., None]
        across, down = cell_coverage(left, w, self._cells), cell_coverage(top, h, self._cells)  # (K, cells)
        total = (down[:, None] @ search.resemblance @ across[..., None])[:, 0, 0]
        mean: Array = total / np.maximum(down.sum(1) * across.sum(1), 1e-9)
        return mean

    def _scales(self, rows: NDArray[np.int_]) -> Array:
        """(K, 1) crop pixels per frame pixel, by the targets' sizes."""
        return EXEMPLAR / self._template_sides(self.boxes[rows])[:, None]

    def _template_sides(self, boxes: Array) -> Array:
        """(K,) sides of the template's windows around boxes, frame pixels."""
        sides: Array = np.maximum(1.0, context_size(boxes, context_amount=self.config.context_amount))
        return sides

    def _crops(self, frame: Any, rows: NDArray[np.int_], boxes: Array, out: int) -> Any:
        """(K, out, out, 3) crops around boxes, at the template's scale, where the frame is."""
        sides = self._template_sides(boxes) * (out / EXEMPLAR)
        fill, images = self._fill[rows], frame
        if (fill == fill[0]).all():
            fill = fill[0]
        else:  # one image per window, of the same memory, so that each has the colour of its own first frame
            shape = len(rows), *frame.shape
            images = frame.expand(shape) if isinstance(frame, torch.Tensor) else np.broadcast_to(frame, shape)
        centers = box_centers_by_index(boxes)
        return crop_and_resize(images, centers, sides, out, fill=fill, rounding="subpixel", layout="hwc")


def _put(
    results: Sequence[NDArray[Any]], others: Sequence[NDArray[Any]], to: NDArray[np.int_], where: NDArray[np.bool_]
) -> None:
    """Rows `where` of the others become rows `to` of the results."""
    for result, other in zip(results, others, strict=True):
        result[to] = other[where]
