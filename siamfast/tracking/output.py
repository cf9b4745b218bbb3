"""Results out: video and text written beside their name, and put in place only when they are whole."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import cv2
import numpy as np

from siamfast.data.images import Image, quiet_opencv

# Container -> codec. OpenCV's wheels carry no H.264 encoder; MPEG-4 part 2 plays everywhere but in browsers.
CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


class _Output:
    """A file under a temporary name in the folder of its own: `commit` renames it, `discard` removes it.

    As a context manager it is discarded unless it was committed.
    """

    def __init__(self, path: str | os.PathLike[str], option: str) -> None:
        self.path = Path(path)
        folder = self.path.parent
        if self.path.is_dir():
            raise IsADirectoryError(f"{option}: {self.path} is a folder, expected a file name")
        if not folder.is_dir():
            raise FileNotFoundError(f"{option}: cannot write {self.path}: there is no folder {folder}")
        # The suffix stays last: OpenCV chooses the container by it.
        self.temporary = folder / f".{self.path.stem}.{os.getpid()}.part{self.path.suffix}"
        try:
            self.temporary.touch()
        except OSError as error:
            raise OSError(f"{option}: cannot write {self.path}: {error.strerror or error}") from error
        self.committed = False

    def _finish(self) -> None:
        """Write out what is pending and let go of the temporary file."""

    def commit(self) -> None:
        """Put the file in place, replacing what was there."""
        self._finish()
        os.replace(self.temporary, self.path)
        self.committed = True

    def discard(self) -> None:
        """Leave nothing behind."""
        try:
            self._finish()
        finally:
            self.temporary.unlink(missing_ok=True)

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.committed:
            self.discard()


class VideoOutput(_Output):
    """A video of RGB frames; its size is the first frame's, frames of other sizes are resized to it.

    Args:
        path: its suffix chooses the container: .mp4, .m4v, .mov, .mkv, .avi.
        fps: frames a second.
        option: what to name in errors.

    Raises:
        ValueError: another suffix. OSError: it cannot be written (nothing is left behind).
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, option: str = "--out") -> None:
        suffix = Path(path).suffix.lower()
        if suffix not in CODECS:
            raise ValueError(f"{option}: got {os.fspath(path)!r}, expected a name ending in {', '.join(CODECS)}")
        self._codec = CODECS[suffix]
        self._fps = fps
        self._option = option
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self.frames = 0
        super().__init__(path, option)

    def write(self, image: Image) -> None:
        """image: (H, W, 3) uint8 RGB."""
        height, width = image.shape[:2]
        if self._writer is None:
            self._size = (width, height)
            with quiet_opencv():
                code = cv2.VideoWriter_fourcc(*self._codec)  # type: ignore[attr-defined]
                self._writer = cv2.VideoWriter(str(self.temporary), code, self._fps, self._size)
            if not self._writer.isOpened():
                raise OSError(f"{self._option}: OpenCV cannot encode {self.path.suffix} video of {width} x {height}")
        frame = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if (width, height) != self._size:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(np.asarray(frame))
        self.frames += 1

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None

    def commit(self) -> None:
        """Put the video in place.

        Raises:
            OSError: what was written does not open again (OpenCV does not say when the disk is full).
        """
        self._finish()
        with quiet_opencv():
            check = cv2.VideoCapture(str(self.temporary))
            readable = check.isOpened()
            check.release()
        if not readable:
            raise OSError(f"{self._option}: {self.path} was not written whole (is the disk full?)")
        super().commit()


class TextOutput(_Output):
    """Lines of text.

    Raises:
        OSError: it cannot be written (nothing is left behind).
    """

    def __init__(self, path: str | os.PathLike[str], option: str = "--csv") -> None:
        super().__init__(path, option)
        self._file: TextIO = self.temporary.open("w", encoding="utf-8", newline="\n")

    def write(self, line: str) -> None:
        """One line, without its end."""
        self._file.write(line + "\n")

    def _finish(self) -> None:
        self._file.close()
