"""Unlabelled clips to learn correspondence from: a few frames, each through its own moved and zoomed window."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from siamfast.data.scene import Scene
from siamfast.data.seeds import Stream
from siamfast.data.unread import TRIES, Unread
from siamfast.geometry import edge_to_index, index_to_edge
from siamfast.io.images import read_image
from siamfast.io.listing import folders, image_files
from siamfast.ops.crop_and_resize import crop_and_resize


class ClipWindows(NamedTuple):
    """Square windows in their frames, in frame pixels: corners (M, 2) x, y; sizes (M,)."""

    corners: NDArray[np.float64]
    sizes: NDArray[np.float64]


def draw_windows(rng: np.random.Generator, count: int, height: int, width: int, side: int) -> ClipWindows:
    """`count` windows around one place of a frame, each moved by up to 15 % of its size and zoomed by up to 20 %.

    Every frame has its own window. With a fixed one the network could match cells by their place in the image, which
    its zero padding reveals, instead of by their content.
    """
    shortest = min(height, width)
    low = min(shortest, max(0.45 * shortest, 0.8 * side))
    size = float(np.exp(rng.uniform(np.log(low), np.log(shortest))))
    sizes = size * np.exp(rng.uniform(-0.2, 0.2, count))
    middle = rng.uniform(0.5 * size, np.maximum([width, height], size + 1e-9) - 0.5 * size)
    corners = middle + rng.uniform(-0.15, 0.15, (count, 2)) * size - sizes[:, None] / 2
    room = np.array([width, height]) - sizes[:, None]
    return ClipWindows(np.clip(corners, np.minimum(room, 0), np.maximum(room, 0)), sizes)


def start_places(windows: ClipWindows, side: int, stride: int) -> NDArray[np.float32]:
    """(2, n, n) x, y: the place in the first window of each cell of the last one, in cells; both show the same
    frame."""
    cells = np.arange(0, side, stride)
    places = []
    for axis in range(2):
        at = index_to_edge(cells) / side * windows.sizes[-1] + windows.corners[-1, axis]
        places.append(edge_to_index((at - windows.corners[0, axis]) / windows.sizes[0] * side) / stride)
    x, y = np.meshgrid(places[0], places[1])
    return np.stack([x, y]).astype(np.float32)


class _Clips(Dataset[dict[str, torch.Tensor]]):
    """Base class of both sources. Item i depends on (seed, i) alone, whatever the number of workers.

    Args:
        length: number of items.
        seed: 0 or more.
        frames: frames per clip.
        side: side of the views, pixels; 8n + 1, see CorrespondenceEncoder.
        max_gap: largest distance between neighbouring frames of a clip.
    """

    def __init__(self, length: int, *, seed: int = 0, frames: int = 5, side: int = 161, max_gap: int = 4) -> None:
        for name, value, least in (("length", length, 0), ("seed", seed, 0), ("frames", frames, 2), ("side", side, 9),
                                   ("max_gap", max_gap, 1)):  # fmt: skip
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: got {value!r}, expected a whole number, {least} or more")
        self.length, self.seed, self.frames, self.side, self.max_gap = length, seed, frames, side, max_gap

    def __len__(self) -> int:
        return self.length

    def _views(self, rng: np.random.Generator, index: int) -> tuple[list[torch.Tensor], ClipWindows]:
        """frames + 1 views (3, side, side) uint8: the clip's frames in order, forwards or backwards, then the first
        frame again; and their windows."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """frames (frames + 1, 3, side, side) uint8 RGB, the last one being the first frame through another window;
        places (2, n, n) float32: the place in the first view of each cell of the last one, x, y in cells."""
        if not 0 <= index < self.length:
            raise IndexError(f"index: got {index}, expected 0 to {self.length - 1}")
        rng = np.random.default_rng((Stream.CLIPS, self.seed, index))
        views, windows = self._views(rng, index)
        return {"frames": torch.stack(views), "places": torch.from_numpy(start_places(windows, self.side, 8))}

    def _times(self, rng: np.random.Generator, length: int) -> list[int]:
        """Rising or falling frame numbers with a constant gap, as many as a video of `length` frames has."""
        gap = int(rng.integers(1, self.max_gap + 1))
        gap = max(0, min(gap, (length - 1) // (self.frames - 1)))
        first = int(rng.integers(0, length - gap * (self.frames - 1)))
        times = [first + gap * n for n in range(self.frames)]
        return times if rng.random() < 0.5 else times[::-1]


@lru_cache(maxsize=2)
def _scene(seed: int, number: int) -> Scene:
    rng = np.random.default_rng((Stream.CLIPS, seed, number, 1))
    height = int(rng.integers(240, 481))
    return Scene((Stream.CLIPS, seed, number), 60, (height, int(height * rng.uniform(1.0, 1.8))))


class SyntheticClips(_Clips):
    """Clips of synthetic scenes; four neighbouring items share a scene, because setup takes as long as several items.

    >>> item = SyntheticClips(100)[5]
    >>> item["frames"].shape, item["places"].shape
    (torch.Size([6, 3, 161, 161]), torch.Size([2, 21, 21]))
    """

    def _views(self, rng: np.random.Generator, index: int) -> tuple[list[torch.Tensor], ClipWindows]:
        scene = _scene(self.seed, index // 4)
        times = self._times(rng, scene.length)
        windows = draw_windows(rng, self.frames + 1, scene.height, scene.width, self.side)
        views = []
        for t, (x, y), size in zip([*times, times[0]], windows.corners.tolist(), windows.sizes.tolist(), strict=True):
            image = scene.render(t, (x, y, size, size), (self.side, self.side))
            views.append(torch.from_numpy(image).permute(2, 0, 1))
        return views, windows


class FolderClips(_Clips):
    """Clips of videos on disk, each a folder of frames (in it or in `img/`), without annotations.

    Args:
        root: one such folder, or a folder of them.
        length, options: as for SyntheticClips.

    Raises:
        FileNotFoundError: no such folder. ValueError: no folder in it with two images or more; for an item: one clip
            after another has a frame that cannot be read.
    """

    def __init__(self, root: str | Path, length: int, **options: int) -> None:
        super().__init__(length, **options)
        if not Path(root).is_dir():
            raise FileNotFoundError(f"data: {root} is not a folder")
        inner = folders(Path(root))
        videos = [image_files(f / "img" if (f / "img").is_dir() else f) for f in (Path(root), *inner)]
        self.unread = Unread()
        self.videos = [images for images in videos if len(images) >= 2]
        if not self.videos:
            raise ValueError(f"data: no folder with two images or more in {root}")

    def _views(self, rng: np.random.Generator, index: int) -> tuple[list[torch.Tensor], ClipWindows]:
        images = self._images(rng)
        height, width = images[0].shape[:2]
        windows = draw_windows(rng, self.frames + 1, height, width, self.side)
        centers = edge_to_index(windows.corners + windows.sizes[:, None] / 2)
        views = []
        for n, image in enumerate([*images, images[0]]):
            # For a frame of another size than the first, the window is scaled to show the same part.
            fit = np.array([image.shape[1] / width, image.shape[0] / height])
            size = windows.sizes[n : n + 1] * fit.mean()
            view = crop_and_resize(
                image, centers[n : n + 1] * fit, size, self.side, rounding="subpixel", antialias=True
            )[0]
            views.append(torch.from_numpy(np.asarray(view)).permute(2, 0, 1))
        return views, windows

    def _images(self, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
        """The frames of a clip; another clip is drawn if one of them cannot be read."""
        for _ in range(TRIES):
            video = self.videos[int(rng.integers(len(self.videos)))]
            try:
                return [read_image(video[t]) for t in self._times(rng, len(video))]
            except (ValueError, OSError) as error:
                self.unread.add()
                last = error
        raise ValueError(f"{TRIES} drawn clips in a row could not be read; the last one: {last}")
