"""The codec that a video file names: OpenCV does not report it for files that it cannot open."""

from __future__ import annotations

import re
from pathlib import Path

_ENDS = 1 << 22  # bytes at either end of the file that are searched for its index
_PATTERNS = (
    re.compile(rb"hdlr.{8}vide.*?stsd.{12}(.{4})", re.DOTALL),  # MP4, MOV: the sample description of a video track
    re.compile(rb"strh.{4}vids(.{4})", re.DOTALL),  # AVI: the handler of a video stream
    re.compile(rb"\x86.(V_[A-Z0-9/_]+)", re.DOTALL),  # Matroska, WebM: CodecID
)


def codec_of(path: str) -> str | None:
    """The codec's name in the container, such as "hvc1" or "V_AV1"; None if there is none."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(_ENDS)
            size = file.seek(0, 2)
            file.seek(max(len(content), size - _ENDS))
            content += file.read()
    except OSError:
        return None
    for pattern in _PATTERNS:
        match = pattern.search(content)
        if match is not None:
            return match[1].decode("latin-1").strip()
    return None


def why_unreadable(path: str) -> str:
    """The end of an error message about a video file without a decodable frame: its codec, and a remedy."""
    codec = codec_of(path)
    if codec is None or not codec.isprintable():
        return ""
    return (
        f" (codec {codec!r}: damaged, or not decoded by this OpenCV; `ffmpeg -i IN -c:v libx264 OUT.mp4` converts it)"
    )
