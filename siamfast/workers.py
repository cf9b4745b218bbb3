"""Set up processes of pools and data loaders: one thread each, no reaction to Ctrl-C, and an end with their parent."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


def begin_worker(_: int = 0) -> None:
    """A pool's initializer and a data loader's worker_init_fn; its argument, the worker's number, is not used.

    The processes are the parallelism, so each has one thread. The parent handles Ctrl-C. A killed parent (kill -9, out
    of memory) does not end its children, and a pool's would wait for work for ever. So a thread in each child waits
    for the end of the pipe that every child of multiprocessing has from its parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    single_thread()
    if multiprocessing.parent_process() is not None:
        threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()


def single_thread() -> None:
    """Let torch and OpenCV use one thread in this process."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)  # nobody needs its work any more


class LastFew(threading.local, Generic[T]):
    """The last few things that a thread has made, for its next tasks; a dask worker may have several threads.

    >>> squares = LastFew[int](2)
    >>> [squares.get(n, lambda: n * n) for n in (3, 3, 4)]
    [9, 9, 16]
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: dict[Hashable, T] = {}

    def get(self, key: Hashable, make: Callable[[], T], *, anew: bool = False) -> T:
        """What was made for this key; made now if it is not among the last `most` used, or if `anew`."""
        if anew or key not in self._made:
            self._made[key] = make()
        self._made[key] = self._made.pop(key)  # the last used one is last
        if len(self._made) > self._most:
            del self._made[next(iter(self._made))]
        return self._made[key]
