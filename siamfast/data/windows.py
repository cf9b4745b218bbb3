"""The windows of a training pair's template and search crop: SiamFC's geometry, shifted and stretched at random."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamfast.geometry import box_centers
from siamfast.ops.siamfc_crops import context_size


class Windows(NamedTuple):
    """Square windows in their frames.

    template_center, search_center: (2,) x, y in frame pixels. template_size, search_size: sides in frame pixels.
    instance: side of the search crop, pixels.
    """

    template_center: NDArray[np.float64]
    template_size: float
    search_center: NDArray[np.float64]
    search_size: float
    instance: int

    def in_search(self, box: ArrayLike) -> NDArray[np.float64]:
        """(4,) x, y, w, h in frame pixels -> in search-crop pixels."""
        x, y, w, h = np.asarray(box, dtype=float)
        scale = self.instance / self.search_size
        corner = (np.array([x, y]) - self.search_center) * scale + self.instance / 2
        return np.array([*corner, w * scale, h * scale])

    def in_template(self, box: ArrayLike, exemplar: int) -> NDArray[np.float64]:
        """(4,) x, y, w, h in frame pixels -> in pixels of a template crop of side `exemplar`."""
        x, y, w, h = np.asarray(box, dtype=float)
        scale = exemplar / self.template_size
        corner = (np.array([x, y]) - self.template_center) * scale + exemplar / 2
        return np.array([*corner, w * scale, h * scale])


def draw_recent(rng: np.random.Generator, box: ArrayLike, *, context_amount: float) -> Windows:
    """The template window around a tracked target, with small errors in its middle and size, like a tracker's.

    Args:
        rng: the random generator.
        box: (4,) x, y, w, h of the target.
        context_amount: context around the box, as a share of w + h.
    """
    target = np.asarray(box, dtype=float)
    size = float(context_size(target, context_amount=context_amount)) * float(np.exp(rng.normal() * 0.08))
    center = box_centers(target) + rng.normal(size=2) * 0.03 * size
    return Windows(center, size, center, size, 1)


def draw_windows(
    rng: np.random.Generator,
    template_box: ArrayLike,
    search_box: ArrayLike,
    *,
    exemplar: int,
    instance: int,
    context_amount: float,
    max_shift: float,
    max_stretch: float,
) -> Windows:
    """The template window around its box; the search window moved up to `max_shift` crop pixels and stretched.

    A quarter of the search windows is not moved, because the target of a slow video stays in its place.

    Args:
        rng: the random generator.
        template_box, search_box: (4,) x, y, w, h of the target in its two frames.
        exemplar, instance: sides of the crops in pixels.
        context_amount: context around the box, as a share of w + h.
        max_shift: in search-crop pixels, along x and y.
        max_stretch: largest relative change of the search window's side.
    """
    first, second = np.asarray(template_box, dtype=float), np.asarray(search_box, dtype=float)
    sides = context_size(np.stack([first, second]), context_amount=context_amount)
    template_size = float(sides[0]) * float(np.exp(rng.normal() * max_stretch / 4))
    side = float(sides[1]) * instance / exemplar
    side *= float(np.exp(rng.uniform(-max_stretch, max_stretch)))
    shift = np.zeros(2) if rng.random() < 0.25 else rng.uniform(-max_shift, max_shift, 2)
    center = box_centers(second) - shift * side / instance
    return Windows(box_centers(first), template_size, center, side, instance)
