"""Frames that are needed once more, in any order, without holding them in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import cv2

from siamfast.io.files import naming
from siamfast.io.frames import Frames
from siamfast.io.images import Image, read_image

_QUALITY = 95


class KeptFrames:
    """Frames of a source, kept as JPEG files in a temporary folder, or read again where the source is image files.

    A context manager that removes the folder. size: width and height of the last frame that was added.

    >>> import numpy as np
    >>> with KeptFrames(Frames()) as kept:
    ...     kept.add(3, np.full((48, 64, 3), 90, np.uint8))
    ...     kept.read(3).shape
    (48, 64, 3)
    """

    def __init__(self, source: Frames) -> None:
        self._source = source
        self._paths: dict[int, Path] = {}
        self.size = 0, 0

    def __enter__(self) -> KeptFrames:
        self._folder = tempfile.TemporaryDirectory(prefix="siamfast-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def add(self, index: int, image: Image) -> None:
        """Keep a frame.

        Raises:
            OSError: there is no room for it.
        """
        self.size = image.shape[1], image.shape[0]
        path = self._source.path(index)
        if path is None:
            path = Path(self._folder.name) / f"{index}.jpg"
            _, coded = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
            with naming(path):
                path.write_bytes(coded.tobytes())
        self._paths[index] = path

    def read(self, index: int) -> Image:
        """A frame that was added and not dropped: (H, W, 3) uint8 RGB."""
        return read_image(self._paths[index])

    def indices(self, first: int) -> list[int]:
        """The kept frames from `first` on, in order."""
        return sorted(index for index in self._paths if index >= first)

    def drop_before(self, first: int) -> None:
        """Remove the frames before `first`."""
        for index in [index for index in self._paths if index < first]:
            path = self._paths.pop(index)
            if self._source.path(index) is None:
                path.unlink()
