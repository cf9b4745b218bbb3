"""A folder of synthetic clips with exact boxes, as a data set to evaluate on, and the record of its settings."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamfast.data.photos import Photos
from siamfast.data.synthetic import SyntheticVideo
from siamfast.io.files import differences, replacing
from siamfast.io.masks import default_palette, write_mask

RECORD = "synthetic.json"  # file in OUT with the settings and the clips' seeds
HIDDEN = (10, 100)  # least and largest number of frames that a hiding target is absent
_CLEAR, _ABSENT = 0.9, 0.05  # visible shares: the least at a clip's start; below the other the target has no box
# At 150 frames, one in thirty of the seeds 0 to 299 hides its target as `hides` requires.
_PATIENCE = 500
_QUALITY = 95


@dataclass(frozen=True)
class Settings:
    """The settings of a folder's clips. size: (height, width) of the frames. photos: folder for their textures, or "".
    With `hides` no object is a copy of the target: if a copy covered it, it could not be called absent."""

    seed: int
    length: int
    size: tuple[int, int]
    masks: bool
    hides: bool
    photos: str = ""

    def video(self, seed: int) -> SyntheticVideo:
        """The video of a clip."""
        photos = _photos(self.photos)
        return SyntheticVideo(seed, length=self.length, size=self.size, photos=photos, copies=not self.hides)

    def suit(self, video: SyntheticVideo) -> bool:
        """Whether a tracker can start at the first frame, and the target hides if `hides` asks for it."""
        return video.visible(0) >= _CLEAR and (not self.hides or hides(_visible(video)))


@lru_cache(maxsize=1)
def _photos(folder: str) -> Photos | None:
    return Photos(folder) if folder else None


def hides(visible: ArrayLike) -> bool:
    """Whether the target is absent at least once for 10 to 100 frames and comes back.

    Args:
        visible: (T,) the target's visible share in each frame.

    >>> hides([1] + [0] * 10 + [1]), hides([1] + [0] * 10), hides([1] + [0] * 9 + [1])
    (True, False, False)
    """
    absent = np.asarray(visible, dtype=np.float64) < _ABSENT
    edges = np.flatnonzero(np.diff(np.concatenate([[False], absent, [False]])))
    begins, ends = edges[::2], edges[1::2]
    frames = ends - begins
    return bool(((frames >= HIDDEN[0]) & (frames <= HIDDEN[1]) & (ends < len(absent))).any())


def next_seed(settings: Settings, start: int) -> int:
    """The first seed from `start` on with a video that suits the settings.

    Raises:
        ValueError: none of many seeds in a row suits.
    """
    for seed in range(start, start + _PATIENCE):
        if settings.suit(settings.video(seed)):
            return seed
    raise ValueError(
        f"--length: no clip of {settings.length} frames suits, with the seeds {start} to {start + _PATIENCE - 1}; "
        "longer clips suit more often"
    )


def write_clip(folder: Path, video: SyntheticVideo, *, masks: bool = False) -> None:
    """Write img/00000001.jpg ... and groundtruth.txt, and with `masks` masks/00000001.png ...

    The ground truth is written last: a clip that has it is complete and is not made again. Existing frames are kept.
    """
    truth = folder / "groundtruth.txt"
    if truth.is_file():
        return
    for name in ("img", "masks")[: 1 + masks]:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for t in range(len(video)):
        image, mask = folder / "img" / f"{t + 1:08d}.jpg", folder / "masks" / f"{t + 1:08d}.png"
        if not image.is_file():
            _write_jpeg(image, video.frame(t))
        if masks and not mask.is_file():
            write_mask(mask, video.mask(t), default_palette())
    boxes = np.stack([video.box(t) for t in range(len(video))])
    boxes[_visible(video) < _ABSENT] = np.nan
    with replacing(truth) as temporary:
        np.savetxt(temporary, boxes, fmt="%.3f", delimiter=",")


def _visible(video: SyntheticVideo) -> NDArray[np.float64]:
    return np.array([video.visible(t) for t in range(len(video))])


def _write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    import cv2

    with replacing(path) as temporary:
        if not cv2.imwrite(str(temporary), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]):
            raise OSError(f"cannot write {path}")


def _as_json(settings: Settings) -> dict[str, Any]:
    copies = {"copies": False} if settings.hides else {}  # clips of earlier versions had copies
    return dataclasses.asdict(settings) | {"size": list(settings.size)} | copies


def known_seeds(out: Path, settings: Settings) -> list[int]:
    """The seeds of the clips in a folder, including unfinished ones.

    Raises:
        ValueError: the folder has clips of other settings, or foreign files.
    """
    path = out / RECORD
    if path.is_file():
        expected = _as_json(settings)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            recorded, seeds = dict(record["settings"]), [int(seed) for seed in record["seeds"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"OUT: {path} is damaged ({type(error).__name__}: {error}): give another folder") from None
        if recorded != expected:
            changes = differences(recorded, expected)
            raise ValueError(f"OUT: {out} has clips of other settings ({changes}): give another folder")
        return seeds
    if out.exists() and (not out.is_dir() or any(not entry.name.startswith(".") for entry in out.iterdir())):
        raise ValueError(f"OUT: {out} exists without a {RECORD}: give another folder")
    return []


def record(out: Path, settings: Settings, seeds: list[int]) -> None:
    """Write the record that `known_seeds` reads."""
    with replacing(out / RECORD) as temporary:
        temporary.write_text(json.dumps({"settings": _as_json(settings), "seeds": seeds}) + "\n", encoding="utf-8")
