"""Processes of pools and data loaders: one thread each, deaf to Ctrl-C, and gone when the process that made them is."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading


def begin_worker(_: int = 0) -> None:
    """A pool's initializer and a data loader's worker_init_fn; the argument, a data loader's number, is not needed.

    The processes are the parallelism, so each has one thread. Ctrl-C is the parent's to handle. A parent that is killed
    (kill -9, out of memory) ends no child, and a pool's would wait for work for ever: a thread of theirs waits for
    the end of the pipe that every child of multiprocessing has from its parent.
    """
    import cv2
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    if multiprocessing.parent_process() is not None:
        threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)  # what it was doing has nobody to go to
