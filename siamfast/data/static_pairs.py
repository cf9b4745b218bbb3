"""Training pairs from single photographs: two views of one place under stretch, turn, shift and light."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from siamfast.data.bends import POSES, Bend
from siamfast.data.photos import Photos
from siamfast.data.seeds import Stream
from siamfast.data.windows import draw_recent, draw_windows
from siamfast.geometry import box_centers, edge_to_index, index_to_edge

Array = NDArray[np.float64]
_MARKED = 0.7  # share of targets that are objects marked by an alpha channel, if there are any
_BENT = 0.5  # share of pairs with a bent second view
_GRID = 4  # pixels between the points at which a bend is computed; it is linear between them
# The assumed outline of a target in its box, between an ellipse and a rectangle. Boxes of turned views are tight around
# it.
_TURN = np.linspace(0, 2 * np.pi, 32, endpoint=False)
_OUTLINE = np.stack([np.sign(f) * np.abs(f) ** 0.7 for f in (np.cos(_TURN), np.sin(_TURN))], 1)


class StaticPairs(Dataset[dict[str, torch.Tensor]]):
    """Two views of one photograph with a place near its middle as the target. Item i depends on (seed, i) alone.

    They are cheap and fully natural images, while a renderer pastes its objects. Source: Zhu et al. 2018, "DaSiamRPN",
    section 3.2, and Li et al. 2019, "SiamRPN++", section 4.1, who train on single images of COCO and ImageNet DET.

    Args:
        photos: a folder of images.
        length: number of items.
        options: as for SyntheticPairs; `max_gap`, `previous` and `first_frames` have no effect.

    Raises:
        FileNotFoundError: no such folder. ValueError: no image in it.

    >>> pairs = StaticPairs("photos", 1000)  # doctest: +SKIP
    >>> pairs[0]["search"].shape  # doctest: +SKIP
    torch.Size([3, 255, 255])
    """

    def __init__(
        self,
        photos: str | Path | Photos,
        length: int,
        *,
        seed: int = 0,
        exemplar: int = 127,
        instance: int = 255,
        context_amount: float = 0.5,
        max_shift: float = 32.0,
        max_stretch: float = 0.08,
        negatives: float = 0.0,
        recent: int = 0,
    ) -> None:
        self.photos = photos if isinstance(photos, Photos) else Photos(photos)
        self.length, self.seed, self.exemplar, self.instance = length, seed, exemplar, instance
        self.context_amount, self.max_shift, self.max_stretch = context_amount, max_shift, max_stretch
        self.negatives, self.recent = negatives, recent

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """As SyntheticPairs.__getitem__."""
        if not 0 <= index < self.length:
            raise IndexError(f"index: got {index}, expected 0 to {self.length - 1}")
        rng = np.random.default_rng((Stream.STATIC_PAIRS, self.seed, index))
        place = _Place.draw(rng, self.photos)
        positive = bool(rng.random() >= self.negatives)
        other = place if positive else _Place.draw(rng, self.photos)
        view = other.view(rng)
        box = other.box_in(view)
        windows = draw_windows(
            rng,
            place.box,
            box,
            exemplar=self.exemplar,
            instance=self.instance,
            context_amount=self.context_amount,
            max_shift=self.max_shift,
            max_stretch=self.max_stretch,
        )
        item: dict[str, NDArray[Any]] = {
            "template": place.crop(_FLAT, windows.template_center, windows.template_size, self.exemplar),
            "search": other.crop(view, windows.search_center, windows.search_size, self.instance),
            "template_box": windows.in_template(place.box, self.exemplar),
            "box": windows.in_search(box),
        }
        if self.recent:
            # A view between the two, nearer to the second.
            near = view.times(rng.uniform(0.5, 1.2)) if positive else _FLAT
            box = place.box_in(near)
            window = draw_recent(rng, box, context_amount=self.context_amount)
            item["recent"] = place.crop(near, window.template_center, window.template_size, self.exemplar)
            item["recent_box"] = window.in_template(box, self.exemplar)
        tensors = {
            name: torch.from_numpy(value.transpose(2, 0, 1) if value.ndim == 3 else value.astype(np.float32))
            for name, value in item.items()
        }
        return tensors | {"positive": torch.tensor(positive)}


class _View(NamedTuple):
    """A transformation of a photograph about the middle of a box: a bend, then turn and stretch by a (2, 2) matrix."""

    matrix: Array
    bend: Bend | None = None
    pose: float = 0.0

    def times(self, share: float) -> _View:
        matrix = np.eye(2) + (self.matrix - np.eye(2)) * share
        return _View(matrix, self.bend and self.bend.times(share), self.pose)


_FLAT = _View(np.eye(2))


class _Place:
    """A box of a photograph, and the surroundings of the photograph: its mirror image, or its mean colour."""

    def __init__(self, image: NDArray[np.uint8], box: Array, mirrored: bool, outline: Array | None = None) -> None:
        self.image, self.box, self.middle = image, box, box_centers(box)
        self.outline = _OUTLINE * box[2:] / 2 if outline is None else outline - self.middle
        self.border = cv2.BORDER_REFLECT_101 if mirrored else cv2.BORDER_CONSTANT

    @staticmethod
    def draw(rng: np.random.Generator, photos: Photos) -> _Place:
        thing = photos.thing(rng) if rng.random() < _MARKED else None
        if thing is not None:
            outline = thing[1].outline
            low, high = outline.min(0), outline.max(0)
            return _Place(thing[1].image, np.concatenate([low, high - low]), bool(rng.random() < 0.75), outline)
        image = photos.read(int(rng.integers(len(photos))))
        height, width = image.shape[:2]
        area = (min(height, width) * np.exp(rng.uniform(np.log(0.15), np.log(0.65)))) ** 2
        aspect = float(np.exp(np.clip(rng.normal() * 0.45, -1.1, 1.1)))
        sides = np.minimum([np.sqrt(area * aspect), np.sqrt(area / aspect)], [width * 0.95, height * 0.95])
        middle = np.array([width, height]) * (0.5 + np.clip(rng.normal(size=2) * 0.14, -0.45, 0.45))
        corner = np.clip(middle - sides / 2, 0, np.array([width, height]) - sides)
        return _Place(image, np.concatenate([corner, sides]), bool(rng.random() < 0.75))

    def view(self, rng: np.random.Generator) -> _View:
        """A random view of the photograph about the middle of the box."""
        angle = rng.normal() * rng.choice([0.03, 0.15, 0.4])
        cos, sin = np.cos(angle), np.sin(angle)
        stretch, shear = rng.normal() * 0.1, rng.normal() * 0.06
        matrix = np.array([[cos, -sin], [sin, cos]]) @ np.array([[np.exp(stretch), shear], [0, np.exp(-stretch)]])
        bend = Bend.draw(rng, float(self.box[2:].max()) / 2) if rng.random() < _BENT else None
        return _View(matrix, bend, rng.uniform(0, POSES))

    def box_in(self, view: _View) -> Array:
        """(4,) x, y, w, h, tight around the target in a view."""
        points = self.outline if view.bend is None else view.bend.forward(self.outline, view.pose)
        points = points @ view.matrix.T + self.middle
        low, high = points.min(0), points.max(0)
        return np.concatenate([low, high - low])

    def crop(self, view: _View, center: Array, size: float, side: int) -> NDArray[np.uint8]:
        """The square window of `size` around `center` of the view, as (side, side, 3) uint8 RGB."""
        scale = side / size
        image, level = self.image, 1.0
        while scale * level < 0.6 and min(image.shape[:2]) > 16:  # filtered, not sampled
            image = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
            level *= 2
        # From crop pixels to places in the flat picture, about the middle; pixel centres are at halves.
        back = np.linalg.inv(view.matrix)
        corner = back @ (center - size / 2 - self.middle)
        count = -(-side // _GRID)
        pixel = index_to_edge(np.arange(count + 1) * _GRID) / scale
        x = back[0, 0] * pixel[None] + back[0, 1] * pixel[:, None] + corner[0]
        y = back[1, 0] * pixel[None] + back[1, 1] * pixel[:, None] + corner[1]
        if view.bend is not None:
            x, y = view.bend.backward(x, y, view.pose)
        # In pixels of the (smaller) photograph by index, and for every crop pixel: linear between the grid's points.
        place = edge_to_index((np.stack([x, y], 2) + self.middle) / level)
        fine = np.array([[1 / _GRID, 0, 0], [0, 1 / _GRID, 0]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        lookup = cv2.warpAffine(place.astype(np.float32), fine, (side, side), flags=flags)
        fill = self.image.reshape(-1, 3)[:: max(1, self.image.size // 3000)].mean(0).tolist()
        drawn = cv2.remap(image, lookup, None, cv2.INTER_LINEAR, borderMode=self.border, borderValue=fill)  # type: ignore[call-overload]
        return np.asarray(drawn, np.uint8)
