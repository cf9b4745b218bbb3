"""Frames in: from a video file, a folder, a glob of images or a camera, as RGB arrays; undecodable ones are counted."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

# FFmpeg's decoder writes to stderr by itself; errors are ours to report, in one line. Read when OpenCV first opens a
# video, so it must stand before that; a user's own setting wins.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from siamfast.io.codecs import why_unreadable
from siamfast.io.decoders import quiet_opencv
from siamfast.io.images import Image, read_image
from siamfast.io.listing import IMAGE_SUFFIXES, image_files, natural_key

DEFAULT_FPS = 25.0
FASTEST_BELIEVED = 100.0  # frames a second; above, the times of frames are looked at
# So many failures in a row are the end of a video, whatever its header says of more frames.
MAX_BAD_RUN = 100


class Frames:
    """The frames of a source, once through; a context manager that lets go of the source.

    name: for messages. fps: of the source, DEFAULT_FPS where it has none. count: how many frames it announces, None
    where it does not say. skipped: frames before the last good one that did not decode, so far. start: the index of the
    first frame that is given out (image files alone).

    Iterating yields (index, image): index counts from 0 and includes what was skipped; image is (H, W, 3) uint8 RGB.
    """

    name: str = ""
    fps: float = DEFAULT_FPS
    count: int | None = None
    skipped: int = 0
    start: int = 0

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        raise NotImplementedError

    def stems(self) -> list[str]:
        """Names of the frames' files, without their endings, by index; empty for videos and cameras."""
        return []

    def close(self) -> None:
        """Let go of the source."""

    def __enter__(self) -> Frames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ImageFrames(Frames):
    """Image files in order.

    Raises:
        ValueError: on iterating, when the first does not decode (the first box belongs to it).
    """

    def __init__(self, paths: list[Path], name: str) -> None:
        self.name = name
        self.count = len(paths)
        self._paths = paths

    def stems(self) -> list[str]:
        names = [path.stem for path in self._paths]
        return names if len(set(names)) == len(names) else []

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        for index, path in enumerate(self._paths[self.start :], start=self.start):
            try:
                image = read_image(path)
            except (ValueError, OSError) as error:
                if index == self.start:
                    raise ValueError(f"{self.name}: the first frame cannot be decoded: {error}") from None
                self.skipped += 1
                continue
            yield index, image


class CaptureFrames(Frames):
    """A video file (source is a path), a stream (a URL) or a camera (its index).

    Raises:
        ValueError: it cannot be opened, or has no frame that decodes.
    """

    def __init__(self, source: str | int) -> None:
        self.name = f"camera {source}" if isinstance(source, int) else source
        self._live = isinstance(source, int)
        remote = not self._live and is_url(str(source))
        # Of a relative name with a colon FFmpeg takes what is before it for a protocol.
        self._path = source if isinstance(source, int) or remote else os.path.abspath(source)
        with quiet_opencv():
            self._capture = cv2.VideoCapture(self._path)
            if not self._capture.isOpened():
                if self._live or remote:
                    raise ValueError(f"{self.name}: cannot be opened" + (" as a video stream" if remote else ""))
                raise ValueError(f"{self.name}: cannot be read as a video{why_unreadable(str(source))}")
            announced = self._capture.get(cv2.CAP_PROP_FPS)
            count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
            self._live = self._live or (remote and not count > 0)  # a file behind a URL has an end that it announces
            self.fps = announced
            if not 0 < announced <= FASTEST_BELIEVED:  # nan neither
                self.fps = DEFAULT_FPS if self._live else _measured_fps(self._path, announced)
                count *= self.fps / announced if announced > 0 else 1
            self.count = round(count) if not self._live and math.isfinite(count) and count > 0 else None

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        index = good = failures = 0
        while failures <= MAX_BAD_RUN:
            with quiet_opencv():
                try:
                    decoded, image = self._capture.read()
                except cv2.error:
                    decoded, image = False, None
            if decoded and image is not None and image.size:
                # Failures count as skipped once a good frame follows: those at the end are the end.
                self.skipped += failures
                good, failures = good + 1, 0
                yield index, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            elif self._live or index + 1 < (self.count or 0):
                failures += 1
            else:
                break
            index += 1
        if not good:
            why = why_unreadable(self._path) if isinstance(self._path, str) else ""
            raise ValueError(f"{self.name}: no frame can be decoded{why}")

    def close(self) -> None:
        self._capture.release()


def is_url(text: str) -> bool:
    """Whether it is a URL, of any scheme: OpenCV's FFmpeg knows which it can open."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def _measured_fps(path: str | int, announced: float) -> float:
    """Frames a second by the times of the first frames, where a header may announce the rate of its clock instead.

    WebM counts thousandths of a second, other containers as much as 90000 ticks: where frames do not come at regular
    times, FFmpeg gives that number. A rate that fits the times (a fast camera's) is kept.
    """
    capture = cv2.VideoCapture(path)
    times: list[float] = []
    while len(times) < 60 and capture.grab():
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    capture.release()
    if len(times) < 2 or not math.isfinite(times[-1]) or times[-1] <= times[0]:
        return announced if 0 < announced <= 1000 else DEFAULT_FPS
    measured = 1000 * (len(times) - 1) / (times[-1] - times[0])
    return announced if measured / 1.5 < announced < measured * 1.5 else measured


def open_frames(source: str | os.PathLike[str]) -> Frames:
    """Open what the user named.

    Args:
        source: a video file; a folder of images, or one with a folder `img` of them; a glob such as "shots/*.png"; an
            image file; a URL of a stream or a video (rtsp://, http://, ...); or a camera's index ("0") or device
            ("/dev/video0").

    Raises:
        FileNotFoundError: nothing there. ValueError: no images in it, or a file that is not a video.
    """
    text = os.fspath(source)
    path = Path(text)
    if is_url(text):
        return CaptureFrames(text)
    if path.is_dir():
        inner = path / "img"
        images = image_files(path) or (image_files(inner) if inner.is_dir() else [])
        if not images:
            raise ValueError(f"{text}: no images in this folder (looked for {', '.join(IMAGE_SUFFIXES)})")
        return ImageFrames(images, text)
    if path.is_file():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageFrames([path], text)
        if path.stat().st_size == 0:
            raise ValueError(f"{text}: the file is empty")
        return CaptureFrames(text)
    camera = re.fullmatch(r"(?:/dev/video)?(\d+)", text)
    if camera is not None and (text.isdecimal() or path.exists()):
        return CaptureFrames(int(camera[1]))
    if path.exists():
        raise ValueError(f"{text}: neither a file, a folder nor a camera")
    if glob.has_magic(text):
        paths = (Path(p) for p in glob.glob(os.path.expanduser(text)))
        images = sorted((p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)
        if not images:
            raise ValueError(f"{text}: no images match")
        return ImageFrames(images, text)
    raise FileNotFoundError(f"{text}: no such file or folder")
