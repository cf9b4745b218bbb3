"""Endless synthetic video with exact boxes, and training pairs from it, drawn without drawing whole frames."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from siamfast.data.photos import Photos
from siamfast.data.scene import Scene
from siamfast.data.seeds import Stream
from siamfast.data.windows import Windows, draw_recent, draw_windows

_TEMPLATE_VISIBLE, _SEARCH_VISIBLE = 0.6, 0.35  # least visible shares of the target in a pair
_TRIES = 8


class SyntheticVideo:
    """A procedural clip: textured objects that move, turn, deform and pass each other over a moving background.

    The target has an exact box. Around it are distractors that resemble it, occluders, changing light, shadows, motion
    blur, camera motion and shake, noise, defocus and JPEG artefacts. All of it depends on `seed` alone.

    Args:
        seed: 0 or more; each seed is another video.
        length: number of frames.
        size: (height, width) of a frame in pixels.
        photos: a folder of photographs, from which four in five textures are cut; None: all are procedural.
        copies: whether some other objects resemble the target, up to the same picture; if such a copy covers the
            target, nobody can tell them apart.

    Raises:
        TypeError, ValueError: arguments that are not such numbers, or a folder without images.
        FileNotFoundError: no such folder.
        IndexError: a frame outside 0 .. length - 1.

    >>> video = SyntheticVideo(3, length=20)
    >>> video.frame(0).shape, video.box(0).shape
    ((360, 480, 3), (4,))
    >>> len([frame for frame, box in video])
    20
    """

    def __init__(
        self,
        seed: int,
        *,
        length: int = 150,
        size: tuple[int, int] = (360, 480),
        photos: str | Path | Photos | None = None,
        copies: bool = True,
    ) -> None:
        self.seed = _integer("seed", seed, 0)
        self.length = _integer("length", length, 1)
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise TypeError(f"size: got {size!r}, expected (height, width)")
        self.height, self.width = (_integer("size", side, 16) for side in size)
        sides = self.height, self.width
        self._scene = Scene((Stream.VIDEO, self.seed), self.length, sides, _photos(photos), copies=copies)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
        return ((self.frame(t), self.box(t)) for t in range(self.length))

    def frame(self, t: int) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB."""
        return self._scene.render(self._time(t), (0, 0, self.width, self.height), (self.height, self.width))

    def box(self, t: int) -> NDArray[np.float64]:
        """(4,) x, y, w, h in pixels: tight around the target's silhouette, whether or not all of it is visible."""
        return self._scene.box(self._time(t))

    def visible(self, t: int) -> float:
        """The share of the silhouette that is in the frame and not covered, 0 to 1."""
        return self._scene.visible(self._time(t))

    def mask(self, t: int) -> NDArray[np.uint8]:
        """(height, width) uint8: 1 where the target is visible, 0 elsewhere."""
        return self._scene.mask(self._time(t))

    def window(self, t: int, center: tuple[float, float], size: float, out_size: int) -> NDArray[np.uint8]:
        """The square of side `size` around `center` (x, y), drawn directly as (out_size, out_size, 3) uint8 RGB.

        It shows the same as a mean-padded, resized crop of the frame, but nothing larger than the result is drawn.
        """
        if not size > 0:
            raise ValueError(f"size: got {size!r}, expected more than 0")
        side = _integer("out_size", out_size, 1)
        corner = center[0] - size / 2, center[1] - size / 2
        return self._scene.render(self._time(t), (*corner, size, size), (side, side))

    def _time(self, t: int) -> int:
        if not 0 <= t < self.length:
            raise IndexError(f"t: got {t}, expected 0 to {self.length - 1}")
        return int(t)


def _photos(photos: str | Path | Photos | None) -> Photos | None:
    return photos if photos is None or isinstance(photos, Photos) else Photos(photos)


@lru_cache(maxsize=2)
def _scene(seed: int, number: int, attempt: int, length: int, photos: Photos | None) -> Scene:
    """The scene of some neighbouring pairs; cached, because they are drawn one after another."""
    rng = np.random.default_rng((Stream.SYNTHETIC_PAIRS, seed, number, attempt, 1))
    height = int(rng.integers(240, 721))
    size = height, int(height * rng.uniform(1.0, 1.8))
    return Scene((Stream.SYNTHETIC_PAIRS, seed, number, attempt), length, size, photos)


class SyntheticPairs(Dataset[dict[str, torch.Tensor]]):
    """Training pairs of synthetic scenes. Item i depends on (seed, i) alone, whatever the number of workers.

    Args:
        length: number of items.
        seed: 0 or more; seeds share no scene.
        exemplar, instance: sides of the template and the search crop, pixels.
        context_amount: context around the box, as a share of w + h (0.5: the paper).
        max_gap: largest distance between the two frames.
        max_shift: largest shift of the target from the search crop's centre, in crop pixels.
        max_stretch: largest relative change of the search window's size.
        negatives: share of items with a search crop without the target: half of them show another scene, half the same
            one with the target removed.
        previous: 0, or the largest distance of a third frame from the search frame. It is cropped with the search
            frame's window, like a tracker's previous frame.
        first_frames: share of items with the template's frame as the third frame, as for a tracker's second frame.
        recent: 0, or the largest distance of a third frame from the search frame. It is cropped around its own box,
            like the template.
        pairs_per_scene: neighbouring items that share a scene, because setup takes as long as drawing several pairs.
        photos: as for SyntheticVideo.

    Raises:
        TypeError, ValueError: arguments that are not such numbers, or a folder without images.
        FileNotFoundError: no such folder.

    >>> item = SyntheticPairs(1000)[5]
    >>> item["template"].shape, item["search"].shape, item["box"].shape, bool(item["positive"])
    (torch.Size([3, 127, 127]), torch.Size([3, 255, 255]), torch.Size([4]), True)
    """

    def __init__(
        self,
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
        pairs_per_scene: int = 6,
        photos: str | Path | Photos | None = None,
    ) -> None:
        self.length, self.seed = _integer("length", length, 0), _integer("seed", seed, 0)
        self.exemplar, self.instance = _integer("exemplar", exemplar, 1), _integer("instance", instance, 1)
        self.max_gap = _integer("max_gap", max_gap, 1)
        self.pairs_per_scene = _integer("pairs_per_scene", pairs_per_scene, 1)
        for name, value in (("context_amount", context_amount), ("max_shift", max_shift), ("max_stretch", max_stretch)):
            if not 0 <= value < np.inf:
                raise ValueError(f"{name}: got {value!r}, expected 0 or more")
        for name, value in (("negatives", negatives), ("first_frames", first_frames)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: got {value!r}, expected a share between 0 and 1")
        self.context_amount, self.max_shift = float(context_amount), float(max_shift)
        self.max_stretch, self.negatives = float(max_stretch), float(negatives)
        self.previous, self.first_frames = _integer("previous", previous, 0), float(first_frames)
        self.recent, self.photos = _integer("recent", recent, 0), _photos(photos)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """template (3, exemplar, exemplar) and search (3, instance, instance) uint8, template_box and box (4,) float32
        x, y, w, h of the target in their pixels, positive: whether the search crop shows the template's target; with
        `previous` also previous, like search, and previous_box; with `recent` also recent, like template, and
        recent_box."""
        if not 0 <= index < self.length:
            raise IndexError(f"index: got {index}, expected 0 to {self.length - 1}")
        rng = np.random.default_rng((Stream.SYNTHETIC_PAIRS, self.seed, index))
        number = index // self.pairs_per_scene
        begins = bool(self.previous and rng.random() < self.first_frames)
        scene, first, second = self._frames(rng, number, self.previous if begins else self.max_gap)
        positive = bool(rng.random() >= self.negatives)
        removed = bool(not positive and rng.random() < 0.5)
        other, place = (scene, second) if positive or removed else self._frames(rng, number + 1, self.max_gap)[::2]
        windows = draw_windows(
            rng,
            scene.box(first),
            other.box(place),
            exemplar=self.exemplar,
            instance=self.instance,
            context_amount=self.context_amount,
            max_shift=self.max_shift,
            max_stretch=self.max_stretch,
        )
        item = {
            "template": _crop(scene, first, windows.template_center, windows.template_size, self.exemplar),
            "search": _crop(
                other, place, windows.search_center, windows.search_size, self.instance, with_target=not removed
            ),
            "template_box": _tensor(windows.in_template(scene.box(first), self.exemplar)),
            "box": _box(windows, other, place),
            "positive": torch.tensor(positive),
        }
        if self.previous:
            near = first if begins and positive else _neighbor(rng, place, self.previous, other.length)
            item["previous"] = _crop(other, near, windows.search_center, windows.search_size, self.instance)
            item["previous_box"] = _box(windows, other, near)
        if self.recent:
            near = _neighbor(
                rng, second, self.recent, scene.length
            )  # shows the target even if the search crop does not
            window = draw_recent(rng, scene.box(near), context_amount=self.context_amount)
            item["recent"] = _crop(scene, near, window.template_center, window.template_size, self.exemplar)
            item["recent_box"] = _tensor(window.in_template(scene.box(near), self.exemplar))
        return item

    def _frames(self, rng: np.random.Generator, number: int, gap: int) -> tuple[Scene, int, int]:
        """A scene and two of its frames, at most `gap` apart, that show the target; scenes that hide it are skipped."""
        length = self.max_gap + 20
        for attempt in range(10 * _TRIES):
            scene = _scene(self.seed, number, attempt, length, self.photos)
            for _ in range(_TRIES):
                first = int(rng.integers(length))
                low, high = max(0, first - gap), min(length, first + gap + 1)
                second = int(rng.integers(low, high))
                if scene.visible(first) >= _TEMPLATE_VISIBLE and scene.visible(second) >= _SEARCH_VISIBLE:
                    return scene, first, second
        raise RuntimeError(f"seed {self.seed}: no scene near number {number} shows its target; this is a bug")


def _neighbor(rng: np.random.Generator, t: int, gap: int, length: int) -> int:
    """A frame 1 to `gap` before t, or after it if there is none before."""
    away = int(rng.integers(1, gap + 1))
    return t - away if t >= away else min(t + away, length - 1)


def _box(windows: Windows, scene: Scene, t: int) -> torch.Tensor:
    return _tensor(windows.in_search(scene.box(t)))


def _tensor(box: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(box.astype(np.float32))


def _crop(
    scene: Scene, t: int, center: NDArray[np.float64], size: float, side: int, *, with_target: bool = True
) -> torch.Tensor:
    corner = center - size / 2
    image = scene.render(t, (float(corner[0]), float(corner[1]), size, size), (side, side), with_target=with_target)
    return torch.from_numpy(image).permute(2, 0, 1)


def _integer(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: got {value!r}, expected a whole number")
    if value < least:
        raise ValueError(f"{name}: got {value}, expected {least} or more")
    return int(value)
