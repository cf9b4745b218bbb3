"""Write results: video and text get a temporary name and are renamed when complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import av
import cv2
import numpy as np

from siamfast.io.files import temporary_beside
from siamfast.io.images import Image

_H264 = "libx264"
# Container -> codec.
CODECS = {".mp4": _H264, ".m4v": _H264, ".mov": _H264, ".mkv": _H264, ".avi": "mjpeg"}
_MADE_BY = "made by siamfast"  # a comment in every video that we write
_TICK = Fraction(1, 90_000)  # seconds: the time unit of H.264


class _Output:
    """A file under a temporary name in its folder: `commit` renames it, `discard` removes it.

    As a context manager it is discarded unless committed.
    """

    def __init__(self, path: str | os.PathLike[str], option: str) -> None:
        self.path = Path(path)
        folder = self.path.parent
        if self.path.is_dir():
            raise IsADirectoryError(f"{option}: {self.path} is a folder, expected a file name")
        if self.path.exists() and not self.path.is_file():
            raise OSError(
                f"{option}: {self.path} is a device or a pipe, which a file would replace; expected a file name"
            )
        if not folder.is_dir():
            raise FileNotFoundError(f"{option}: cannot write {self.path}: there is no folder {folder}")
        self.temporary = temporary_beside(self.path)
        try:
            self.temporary.touch()
        except OSError as error:
            raise OSError(f"{option}: cannot write {self.path}: {error.strerror or error}") from error
        self.committed = False

    def _finish(self) -> None:
        """Write pending data and close the temporary file."""

    def commit(self, path: Path | None = None) -> None:
        """Rename the file into place, replacing an old one; `path`: to another name."""
        self._finish()
        self.path = path or self.path
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
    """A video of RGB frames with the first frame's size; other frames are resized to it. Odd sides grow by repeating
    the last pixel, because the codecs need even ones.

    It is H.264 in 4:2:0, which players and browsers show, or Motion JPEG in .avi, written by PyAV.

    Args:
        path: its suffix chooses the container: .mp4, .m4v, .mov, .mkv, .avi.
        fps: frames per second, for frames without a time.
        option: its name in errors.

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
        self._container: av.container.OutputContainer | None = None
        self._time = 0.0  # of the last frame
        self._ticks = -1  # time of the last frame, as written
        self._size = (0, 0)
        self.frames = 0
        super().__init__(path, option)

    def write(self, image: Image, time: float | None = None) -> None:
        """Add a frame.

        Args:
            image: (H, W, 3) uint8 RGB.
            time: seconds from the first frame, to keep a variable rate; None: 1 / fps after the last one, as always in
                .avi, which has no times.

        Raises:
            OSError: it cannot be written, for example because the disk is full.
        """
        height, width = image.shape[:2]
        with self._named():
            if self._container is None:
                self._size = (width, height)
                self._begin()
            if (width, height) != self._size:
                image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)
            right, bottom = self._size[0] % 2, self._size[1] % 2
            if right or bottom:
                image = np.asarray(cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE), np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.time_base = self._clock
            if time is None or self._codec != _H264:
                time = self._time + 1 / self._fps if self.frames else 0.0
            self._time, self._ticks = time, max(round(time / self._clock), self._ticks + 1)
            frame.pts = self._ticks
            self._mux(frame)
        self.frames += 1

    def _begin(self) -> None:
        # FFmpeg takes the part of a relative name before a colon for a protocol.
        options = {"movflags": "+faststart"} if self.path.suffix.lower() in (".mp4", ".m4v", ".mov") else {}
        self._container = av.open(os.path.abspath(self.temporary), "w", options=options)
        self._container.metadata["comment"] = _MADE_BY
        rate = Fraction(self._fps).limit_denominator(1001)
        stream = self._container.add_stream(self._codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = (side + side % 2 for side in self._size)
        if self._codec == _H264:
            stream.pix_fmt = "yuv420p"
            # 2 ms per frame of 480 x 360; "veryfast": 7, and half the bytes.
            stream.options = {"crf": "20", "preset": "ultrafast"}
            self._clock = _TICK
            stream.codec_context.time_base = self._clock
        else:
            stream.pix_fmt = "yuvj420p"
            stream.options = {"qmin": "2", "qmax": "4"}
            self._clock = 1 / rate
        self._stream = stream

    def _mux(self, frame: av.VideoFrame | None) -> None:
        assert self._container is not None
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            raise OSError(f"{self._option}: cannot write {self.path}: {error.strerror or error}") from None

    def _finish(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def discard(self) -> None:
        """Leave nothing behind."""
        with suppress(av.FFmpegError):  # about a file that is removed
            super().discard()

    def commit(self, path: Path | None = None) -> None:
        """Rename the video into place.

        Raises:
            OSError: it cannot be completed, for example because the disk is full.
        """
        with self._named():
            if self._container is not None:
                self._mux(None)
            self._finish()
        super().commit(path)


class TextOutput(_Output):
    """Lines of text.

    Raises:
        OSError: it cannot be written (nothing is left behind).
    """

    def __init__(self, path: str | os.PathLike[str], option: str = "--csv") -> None:
        super().__init__(path, option)
        self._file: TextIO = self.temporary.open("w", encoding="utf-8", newline="\n")

    def write(self, line: str) -> None:
        """Write one line, given without its newline."""
        self._file.write(line + "\n")

    def _finish(self) -> None:
        self._file.close()


def is_own_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a video that VideoOutput has written."""
    try:
        with av.open(os.path.abspath(path)) as container:
            # Matroska changes the case of the key.
            return any(key.lower() == "comment" and text == _MADE_BY for key, text in container.metadata.items())
    except (av.FFmpegError, OSError):
        return False
