"""What every source of frames is, whatever reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import TracebackType

from siamfast.io.images import Image

DEFAULT_FPS = 25.0
# So many failures in a row are the end of a video, whatever its header says of more frames.
MAX_BAD_RUN = 100


class Frames:
    """The frames of a source, once through; a context manager that lets go of the source.

    name: for messages. fps: of the source, DEFAULT_FPS where it has none. count: how many frames it announces, None
    where it does not say. skipped: frames before the last good one that did not decode, so far. start: the index of the
    first frame that is given out (image files alone). time: of the last frame that was given out, seconds from the
    first one; None where the source has no clock. trouble: why a stream ended early; empty where it did not.

    Iterating yields (index, image): index counts from 0 and includes what was skipped; image is (H, W, 3) uint8 RGB.
    """

    name: str = ""
    fps: float = DEFAULT_FPS
    count: int | None = None
    skipped: int = 0
    start: int = 0
    time: float | None = None
    trouble: str = ""

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


def is_url(text: str) -> bool:
    """Whether it is a URL, of any scheme: FFmpeg knows which it can open."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None
