"""Results out: video and text written beside their name, and put in place only when they are whole."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import cv2
import numpy as np

from siamfast.io.decoders import quiet_opencv
from siamfast.io.images import Image

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
    """A video of RGB frames; its size is the first frame's, frames of other sizes are resized to it. Odd sides grow by
    a pixel, the last one repeated: the codecs take even sides, and OpenCV would cut the last row and column off.

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
        self._fps = encodable_fps(fps)
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
                # Of a relative name with a colon FFmpeg takes what is before it for a protocol.
                path, even = os.path.abspath(self.temporary), (width + width % 2, height + height % 2)
                self._writer = cv2.VideoWriter(path, code, self._fps, even)
            if not self._writer.isOpened():
                raise OSError(f"{self._option}: OpenCV cannot encode {self.path.suffix} video of {width} x {height}")
        frame = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if (width, height) != self._size:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        right, bottom = self._size[0] % 2, self._size[1] % 2
        if right or bottom:
            frame = cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
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
            check = cv2.VideoCapture(os.path.abspath(self.temporary))
            readable = check.isOpened()
            check.release()
        if not readable:
            raise OSError(f"{self._option}: {self.path} was not written whole (is the disk full?)")
        super().commit()


def encodable_fps(fps: float) -> float:
    """The nearest rate that MPEG-4 can write: a decimal number whose digits, without the point, fit 16 bits.

    OpenCV asks for three decimals, 119633 / 1000, which the codec refuses; 11963 / 100 it takes.

    >>> encodable_fps(119.633), encodable_fps(23.976024), encodable_fps(25.0)
    (119.63, 23.976, 25.0)
    """
    digits = next(digits for digits in (3, 2, 1, 0) if fps * 10**digits <= 65535 or digits == 0)
    return round(fps, digits)


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
