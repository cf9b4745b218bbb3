"""The base class of all sources of frames."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from siamfast.io.images import Image

DEFAULT_FPS = 25.0
# This many failures in a row are the end of a video, even if its header announces more frames.
MAX_BAD_RUN = 100


class Frames:
    """The frames of a source, for one pass; a context manager that closes the source.

    name: for messages. fps: of the source, or DEFAULT_FPS. count: the number of frames that it announces, or None.
    skipped: undecodable frames before the last good one, so far. start: the index of the first frame to yield (image
    files only). time: of the last frame, seconds from the first one; None if the source has no clock. live: a camera or
    a stream, which has no end of its own. arrived: when the last frame came, by `time.perf_counter`; None where frames
    are read on demand. dropped: frames that came while the last one was worked on (LiveFrames). trouble: why a stream
    ended early, or empty.

    Iterating yields (index, image): index counts from 0 and includes skipped frames; image is (H, W, 3) uint8 RGB.
    """

    name: str = ""
    fps: float = DEFAULT_FPS
    count: int | None = None
    skipped: int = 0
    start: int = 0
    time: float | None = None
    live: bool = False
    arrived: float | None = None
    dropped: int = 0
    trouble: str = ""

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        raise NotImplementedError

    def stems(self) -> list[str]:
        """Names of the frames' files, without their endings, by index; empty for videos and cameras."""
        return []

    def path(self, index: int) -> Path | None:
        """The image file of a frame; None for videos and cameras."""
        return None

    def close(self) -> None:
        """Close the source."""

    def __enter__(self) -> Frames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_url(text: str) -> bool:
    """Whether it is a URL, of any scheme: FFmpeg decides which it can open."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None
