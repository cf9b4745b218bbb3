"""Decode with OpenCV, keep the messages of libjpeg and libpng off the terminal, and turn reported damage into errors.

Both libraries write to file descriptor 2 themselves and return an image of a damaged file with no other sign of it.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # ends coded data: 0xFF00 is a data byte, D0 to D7 are restarts
_SCAN, _END = 0xDA, 0xD9
_MESSAGES = re.compile(r"Corrupt JPEG|Premature end|Invalid |Unsupported |Bogus |Warning: unknown JFIF|libpng |iCCP")
_DAMAGE = re.compile(r"Corrupt JPEG data|Premature end|libpng error")
# Some cameras pad the coded data; the image is complete. More bytes are left by a decoder that lost its place.
_PADDING = re.compile(r"Corrupt JPEG data: (\d|1[0-6]) extraneous bytes before marker 0xd9")


class quiet_opencv:
    """A context in which OpenCV logs nothing. Threads may be in it at once: the last one out brings the level back."""

    _lock = threading.Lock()
    _inside, _before = 0, 0
    # OpenCV 4 has the functions for the level in cv2, OpenCV 5 only in cv2.utils.logging.
    _logging = cv2 if hasattr(cv2, "getLogLevel") else cv2.utils.logging

    def __enter__(self) -> None:
        kind = quiet_opencv
        with self._lock:
            if kind._inside == 0:
                kind._before = self._logging.getLogLevel()
                self._logging.setLogLevel(0)
            kind._inside += 1

    def __exit__(self, *error: object) -> None:
        kind = quiet_opencv
        with self._lock:
            kind._inside -= 1
            if kind._inside == 0:
                self._logging.setLogLevel(kind._before)


def decode_pixels(content: bytes, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8]:
    """Decode an image file's content to (H, W, 3) BGR; flags: of cv2.imdecode.

    Raises:
        ValueError: it is cut short, damaged, or not an image; the message begins with a verb.
    """
    if content[:2] == b"\xff\xd8":
        # Drop data after the end (a motion photo's video, a second picture), which libjpeg must not read.
        end = jpeg_end(content)
        content = content[: end or 0]
    elif content[:4] == b"\x89PNG":
        content = content if b"IEND" in content else b""
    elif content[:2] == b"BM" and len(content) < int.from_bytes(content[2:6], "little"):
        content = b""
    if not content:
        raise ValueError("is cut short")  # OpenCV would fill the rest with gray
    with quiet_opencv(), _decoder_messages() as lines:
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        except cv2.error:
            image = None
    if image is None:
        raise ValueError("cannot be decoded")
    damage = next((line for line in lines if _DAMAGE.match(line) and not _PADDING.match(line)), None)
    if damage is not None:
        raise ValueError(f"is damaged ({damage})")
    return np.asarray(image, np.uint8)


def jpeg_end(content: bytes) -> int | None:
    """The offset just after a JPEG's end marker, or None without one. The end of a thumbnail in the header does not
    count.

    >>> jpeg_end(b"\\xff\\xd8\\xff\\xda\\x00\\x02coded\\xff\\x00\\xff\\xd9, and a video")
    15
    """
    at = 2
    while at + 4 <= len(content) or content[at : at + 2] == b"\xff\xd9":
        if content[at] != 0xFF:
            return None
        kind = content[at + 1]
        if kind == _END:
            return at + 2
        if kind == 0xFF:  # a marker may be preceded by any number of 0xFF
            at += 1
            continue
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")  # every segment states its length
        if kind == _SCAN:
            marker = _MARKER.search(content, at)
            if marker is None:
                return None
            at = marker.end() - 2
    return None


_one_at_a_time = threading.Lock()  # there is one file descriptor 2


def _new_lock() -> None:
    global _one_at_a_time
    _one_at_a_time = threading.Lock()  # in a forked child, where the thread that owned the old one does not exist


os.register_at_fork(after_in_child=_new_lock)


@contextmanager
def _decoder_messages() -> Iterator[list[str]]:
    """Collect the lines that decoders write to file descriptor 2 in this context; lines of others are passed on."""
    lines: list[str] = []
    if not hasattr(os, "memfd_create"):  # not Linux: the messages are neither kept off the terminal nor collected
        yield lines
        return
    with _one_at_a_time:
        try:
            terminal = os.dup(2)
        except OSError:  # closed: there are no messages
            yield lines
            return
        buffer = os.memfd_create("stderr")
        try:
            try:
                os.dup2(buffer, 2)
                yield lines
            finally:
                os.dup2(terminal, 2)
            size = os.fstat(buffer).st_size
            if size:
                for line in os.pread(buffer, size, 0).splitlines(keepends=True):
                    text = line.decode(errors="replace").strip()
                    if _MESSAGES.match(text):
                        lines.append(text)
                    else:
                        os.write(terminal, line)
        finally:
            os.close(buffer)
            os.close(terminal)
