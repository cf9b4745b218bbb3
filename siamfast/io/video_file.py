"""Read video files and network streams by PyAV, in a thread ahead of the tracker."""

from __future__ import annotations

import contextlib
import heapq
import math
import os
import queue
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import av
import numpy as np

from siamfast.io.codecs import why_unreadable
from siamfast.io.frames import DEFAULT_FPS, MAX_BAD_RUN, Frames, is_url
from siamfast.io.images import Image

FASTEST_BELIEVED = 100.0  # frames per second; above it, the times of frames are checked
AHEAD = 4  # decoded frames that wait
TIMEOUT = 10.0  # seconds that a stream may take to answer, or to send the next frame
_LEFT_ALONE = 0.5  # seconds that the end waits for a reader; FFmpeg may wait for a stream that says nothing


class _Decoded(NamedTuple):
    """One frame from the reader's thread."""

    image: Image | None  # None if it did not decode
    time: float | None  # seconds, by the file's clock
    lost: int  # frames before it that did not decode and left no item


class _Order:
    """Counts the frames due before each one by the packets' time stamps, because a decoder may return an error, a
    marked frame, both, or nothing for a damaged packet."""

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self.damaged = False  # since the last frame

    def packet(self, packet: av.Packet[Any]) -> None:
        if packet.pts is not None:
            heapq.heappush(self._waiting, packet.pts)

    def lost_before(self, frame: av.VideoFrame) -> int:
        """Frames lost to damage between the last one and this one."""
        earlier = 0
        while self._waiting and frame.pts is not None and self._waiting[0] <= frame.pts:
            earlier += heapq.heappop(self._waiting) < frame.pts
        lost = earlier if self.damaged else 0  # else these are fields in separate packets
        self.damaged = False
        return lost


class VideoFrames(Frames):
    """A video file, or a stream by its URL.

    Frames are turned by the file's orientation. Time stamps are the file's, so variable rates are kept. A frame that
    does not decode is skipped; frames that depend on it are as the decoder conceals the loss.

    Args:
        source: its path or URL. timeout: seconds that a stream may take to answer, or to send the next frame.

    Raises:
        ValueError: it cannot be opened, has no video, or has no frame that decodes.
    """

    def __init__(self, source: str, timeout: float = TIMEOUT) -> None:
        self.name, self._timeout = source, timeout
        self._remote = is_url(source)
        # FFmpeg takes the part of a relative name before a colon for a protocol.
        self._path = source if self._remote else os.path.abspath(source)
        self._container = self._open_stream() if self._remote else _open_file(self._path, self.name)
        if not self._container.streams.video:
            self._container.close()
            raise ValueError(f"{self.name}: there is no video in it")
        self._stream = self._container.streams.video[0]
        if self._stream.codec_context is None:
            self._container.close()
            raise ValueError(f"{self.name}: cannot be read as a video{why_unreadable(self._path)}")
        self._stream.thread_type = "AUTO"
        rate = float(self._stream.average_rate or 0)
        seconds = (self._container.duration or 0) / av.time_base
        self.live = self._remote and not seconds > 0  # a file behind a URL announces its end
        self.fps = rate
        if not 0 < rate <= FASTEST_BELIEVED:
            self.fps = DEFAULT_FPS if self._remote else _measured_fps(self._path, rate)
        count = self._stream.frames or seconds * self.fps
        self.count = round(count) if not self.live and count > 0 else None
        self._queue: queue.Queue[_Decoded | BaseException | None] = queue.Queue(AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="video reader", daemon=True)

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        self._thread.start()
        index = good = failures = 0
        first: float | None = None
        while failures <= MAX_BAD_RUN:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                break
            failures += item.lost
            index += item.lost
            if item.image is None:
                failures += 1
            else:
                # Failures count as skipped once a good frame follows; at the end they are just the end.
                self.skipped += failures
                good, failures = good + 1, 0
                first = item.time if first is None else first
                self.time = None if item.time is None or first is None else item.time - first
                yield index, item.image
            index += 1
        if not good:
            why = f": {self.trouble}" if self.trouble else why_unreadable(self._path)
            raise ValueError(f"{self.name}: no frame can be decoded{why}")

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                while True:  # the thread may be waiting for room
                    self._queue.get_nowait()
            self._thread.join(_LEFT_ALONE if self._remote else None)
        if not self._thread.is_alive():  # else FFmpeg reads in it, and the process takes it down at its end
            self._container.close()

    # ----------------------------------------------------------------------------------------- in the reader's thread
    def _read(self) -> None:
        try:
            for item in self._decoded():
                if not self._hand_over(item):
                    return
            self._hand_over(None)
        except BaseException as error:
            self._hand_over(error)

    def _open_stream(self) -> av.container.InputContainer:
        """Open the URL in a thread, so that Ctrl-C need not wait for a server that says nothing."""
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask() -> None:
            try:
                options = {"rtsp_transport": "tcp"} if self._path.startswith("rtsp") else {}
                answers.put(av.open(self._path, timeout=self._timeout, options=options))
            except (av.FFmpegError, ValueError, OSError) as error:
                answers.put(error)

        threading.Thread(target=ask, name="stream opener", daemon=True).start()
        answer = answers.get()
        if isinstance(answer, Exception):
            raise ValueError(f"{self.name}: cannot be opened as a video stream ({self._reason(answer)})")
        container: av.container.InputContainer = answer
        return container

    def _reason(self, error: Exception) -> str:
        if isinstance(error, av.error.ExitError):
            return f"no answer for {self._timeout:g} s"
        return str(getattr(error, "strerror", None) or error)

    def _hand_over(self, item: _Decoded | BaseException | None) -> bool:
        """Put an item into the queue; returns False if the source is closed."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.1)
                return True
        return False

    def _decoded(self) -> Iterator[_Decoded]:
        packets, order = self._container.demux(self._stream), _Order()
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                # Nothing more can be read: a truncated file ends here, a stream broke off.
                if self._remote:
                    self.trouble = f"the stream broke off ({self._reason(error)})"
                return
            order.packet(packet)
            try:
                frames = packet.decode()
            except av.FFmpegError:
                order.damaged = True
                continue
            for frame in frames:
                yield _Decoded(None if frame.is_corrupt else _pixels(frame), frame.time, order.lost_before(frame))


def _open_file(path: str, name: str) -> av.container.InputContainer:
    try:
        return av.open(path)
    except (av.FFmpegError, ValueError, OSError):
        raise ValueError(f"{name}: cannot be read as a video{why_unreadable(path)}") from None


def _pixels(frame: av.VideoFrame) -> Image:
    """(H, W, 3) RGB, turned by the file's orientation, in quarter turns."""
    image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    quarters = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarters)) if quarters else image


def _measured_fps(path: str, announced: float) -> float:
    """Frames per second from the first frames' times, because a header may announce the rate of its clock instead.

    WebM counts thousandths of a second, other containers up to 90000 ticks: for frames at irregular times FFmpeg
    returns that number. A rate that fits the times (a fast camera's) is kept.
    """
    times: list[float] = []
    with contextlib.suppress(av.FFmpegError), av.open(path) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.pts is not None and packet.time_base is not None:
                times.append(float(packet.pts * packet.time_base))
            if len(times) == 60:
                break
    times.sort()  # packets are in decoding order
    if len(times) < 2 or not math.isfinite(times[-1]) or times[-1] <= times[0]:
        return announced if 0 < announced <= 1000 else DEFAULT_FPS
    measured = (len(times) - 1) / (times[-1] - times[0])
    return announced if measured / 1.5 < announced < measured * 1.5 else measured
