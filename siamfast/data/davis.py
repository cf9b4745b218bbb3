"""The reader of DAVIS: videos with masks of their objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamfast.data.sequences import Sequence
from siamfast.io.listing import existing, folders, image_files

_FRAMES, _SIZE = "JPEGImages", "480p"  # the benchmark's evaluation size


def list_davis(root: Path) -> list[Path]:
    """The videos of ROOT/JPEGImages/480p, or of the only size; of another size if its folder is ROOT.

    Raises:
        ValueError: several sizes, none of them 480p.
    """
    if root.parent.name == _FRAMES:
        return folders(root)
    top = root / _FRAMES
    sizes = {path.name: path for path in (folders(top) if top.is_dir() else []) if folders(path)}
    if len(sizes) > 1 and _SIZE not in sizes:
        raise ValueError(
            f"root: {top} has {', '.join(sizes)}, expected {_SIZE}; give one as ROOT: {next(iter(sizes.values()))}"
        )
    return folders(sizes.get(_SIZE, next(iter(sizes.values())))) if sizes else []


def read_davis(root: Path, video: Path, report: Callable[[Path, str], None]) -> tuple[Sequence, ...]:
    """ROOT/JPEGImages/480p/<name>/ and ROOT/Annotations/480p/<name>/: the tight box of every object in the masks."""
    from siamfast.io.masks import read_mask

    top = video.parent.parent.parent
    folder = top / "Annotations" / video.relative_to(top / _FRAMES)
    masks = {path.stem: path for path in image_files(existing(folder, "masks are"))}
    frames = image_files(video)
    boxes: dict[int, NDArray[np.float64]] = {}
    for number, frame in enumerate(frames):
        if frame.stem not in masks:
            continue
        numbers = read_mask(masks[frame.stem], "mask").numbers
        for v in (int(v) for v in np.unique(numbers) if v):
            y, x = np.nonzero(numbers == v)
            track = boxes.setdefault(v, np.full((len(frames), 4), np.nan))
            track[number] = x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1
    if not boxes:
        raise ValueError("no masks with an object")
    return tuple(Sequence(f"{video.name}.{v}", tuple(frames), boxes[v]) for v in sorted(boxes))
