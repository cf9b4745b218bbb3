"""Frames as they come: the newest one of a camera or stream, whatever the time that the tracker takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from siamfast.io.frames import Frames
from siamfast.io.images import Image

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0  # seconds before a source is opened again; doubled each time
_LEFT_ALONE = 1.0  # seconds that the end waits for the reader


class LiveFrames(Frames):
    """The newest frame of a source at each step; those that came meanwhile are dropped.

    A thread reads the source. A file or folder is read at its own speed, as if it were a camera. A camera or stream
    that breaks off is opened again, with growing pauses, until `timeout` seconds have passed without a frame.

    dropped, arrived: see Frames. trouble: how often the source broke off.

    Args:
        reopen: opens the source; called again when it breaks off.
        timeout: seconds.

    Raises:
        ValueError, OSError: the source cannot be opened at first.
    """

    def __init__(self, reopen: Callable[[], Frames], timeout: float = 30.0) -> None:
        self._reopen, self._timeout = reopen, timeout
        self._source = reopen()
        self.name, self.fps, self.live = self._source.name, self._source.fps, self._source.live
        self._breaks, self._silent, self._began = 0, False, 0.0
        self._last = 0.0  # when the last frame came; before it, when the source was opened
        self._newest: tuple[int, Image, float, float | None] | None = None  # index, image, arrival, time
        self._error: BaseException | None = None
        self._ended = False
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="live reader", daemon=True)

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        self._thread.start()
        last = -1
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._ended)
                newest, self._newest = self._newest, None
            if newest is None:
                break
            index, image, self.arrived, self.time = newest
            self.dropped += index - last - 1
            last = index
            yield index, image
        if self._error is not None:
            raise self._error
        pauses = f"the source broke off {self._breaks} time{'s' if self._breaks > 1 else ''}" if self._breaks else ""
        silence = f"no frame for {self._timeout:g} s" if self._silent else ""
        self.trouble = ", ".join(filter(None, (pauses or self._source.trouble, silence)))

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_LEFT_ALONE)
        if not self._thread.is_alive():  # else it waits for a source that says nothing, and ends with the process
            self._source.close()

    # ----------------------------------------------------------------------------------------- in the reader's thread
    def _read(self) -> None:
        try:
            index = self._follow(0)
            while self.live and not self._stop.is_set() and self._open_again():
                index = self._follow(index)
        except BaseException as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _follow(self, index: int) -> int:
        """Hand over the source's frames from `index` on until it ends; returns the next index."""
        begin = time.perf_counter()
        self._began, self._last = self._began or begin, self._last or begin
        frames = iter(self._source)
        while not self._stop.is_set():
            try:
                number, image = next(frames)
            except StopIteration:
                break
            except (ValueError, OSError):  # no frame at all
                if not self.live or index == 0:
                    raise
                break
            if not self.live:
                due = number / self.fps if self._source.time is None else self._source.time
                self._stop.wait(max(0.0, begin + due - time.perf_counter()))
            now = time.perf_counter()
            moment = now - self._began if self._source.time is None or self._breaks else self._source.time
            self._last = now
            with self._changed:
                self._newest = index, image, now, moment
                self._changed.notify()
            index += 1
        self.skipped += self._source.skipped
        return index

    def _open_again(self) -> bool:
        """Open the source again; returns False if it could not be within the time-out."""
        self._breaks += 1
        self._source.close()
        end, wait = self._last + self._timeout, _FIRST_WAIT
        while not self._stop.wait(min(wait, max(0.0, end - time.perf_counter()))):
            if time.perf_counter() >= end:
                self._silent = True
                return False
            try:
                self._source = self._reopen()
                return True
            except (ValueError, OSError):
                wait = min(2 * wait, _LONGEST_WAIT)
        return False
