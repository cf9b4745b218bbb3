"""Read frames from a video file, a stream, a folder, a glob of images or a camera, as RGB arrays; undecodable ones are
counted. PyAV (FFmpeg) reads videos and streams; OpenCV reads cameras, for which PyAV's wheels have no driver."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from siamfast.io.decoders import quiet_opencv
from siamfast.io.frames import DEFAULT_FPS, MAX_BAD_RUN, Frames, is_url
from siamfast.io.images import Image, read_image
from siamfast.io.listing import IMAGE_SUFFIXES, image_files, natural_key


class ImageFrames(Frames):
    """Image files in order.

    Raises:
        ValueError: on iterating, if the first one does not decode (the first box belongs to it).
    """

    def __init__(self, paths: list[Path], name: str) -> None:
        self.name = name
        self.count = len(paths)
        self._paths = paths

    def stems(self) -> list[str]:
        names = [path.stem for path in self._paths]
        return names if len(set(names)) == len(names) else []

    def path(self, index: int) -> Path:
        return self._paths[index]

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


class CameraFrames(Frames):
    """A camera, by its index.

    Raises:
        ValueError: it cannot be opened, or, on iterating, gives no frame.
    """

    def __init__(self, index: int) -> None:
        self.name, self.live = f"camera {index}", True
        with quiet_opencv():
            self._capture = cv2.VideoCapture(index)
            if not self._capture.isOpened():
                raise ValueError(f"{self.name}: cannot be opened")
            announced = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = announced if announced > 0 else DEFAULT_FPS  # nan neither

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        index = good = failures = 0
        while failures <= MAX_BAD_RUN:
            with quiet_opencv():
                decoded, image = self._capture.read()
            if decoded and image is not None and image.size:
                self.skipped += failures
                good, failures = good + 1, 0
                yield index, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            else:
                failures += 1
            index += 1
        if not good:
            raise ValueError(f"{self.name}: no frame can be decoded")

    def close(self) -> None:
        self._capture.release()


def open_frames(source: str | os.PathLike[str], timeout: float | None = None) -> Frames:
    """Open a source of frames.

    Args:
        source: a video file; a folder of images, or one with a folder `img` of them; a glob such as ``shots/*.png``; an
            image file; a URL of a stream or a video (rtsp://, http://, ...); or a camera's index ("0") or device
            ("/dev/video0").
        timeout: seconds that a stream may take to answer, or to send the next frame; None: 10.

    Raises:
        FileNotFoundError: nothing there. ValueError: no images in it, or a file that is not a video.
    """
    from siamfast.io.video_file import TIMEOUT, VideoFrames

    text = os.fspath(source)
    path = Path(text)
    if is_url(text):
        return VideoFrames(text, TIMEOUT if timeout is None else timeout)
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
        return VideoFrames(text)
    camera = re.fullmatch(r"(?:/dev/video)?(\d+)", text)
    if camera is not None and (text.isdecimal() or path.exists()):
        return CameraFrames(int(camera[1]))
    if path.exists():
        raise ValueError(f"{text}: neither a file, a folder nor a camera")
    if glob.has_magic(text):
        paths = (Path(p) for p in glob.glob(os.path.expanduser(text)))
        images = sorted((p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)
        if not images:
            raise ValueError(f"{text}: no images match")
        return ImageFrames(images, text)
    raise FileNotFoundError(f"{text}: no such file or folder")
