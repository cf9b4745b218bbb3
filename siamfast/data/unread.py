"""Frames that data sets draw and cannot read: passed over and counted, in whatever process they are drawn."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import get_worker_info

TRIES = 20  # drawings of one item that may fail before it is an error
_SLOTS = 257


class Unread:
    """A count that is shared with the processes of a data loader; each has a slot of its own, so none is lost."""

    def __init__(self) -> None:
        self._counts = torch.zeros(_SLOTS, dtype=torch.int64).share_memory_()

    def add(self) -> None:
        info = get_worker_info()
        self._counts[0 if info is None else 1 + info.id % (_SLOTS - 1)] += 1

    @property
    def total(self) -> int:
        return int(self._counts.sum())


def unread_frames(items: Any) -> int:
    """How often a data set, or those that are mixed in it, drew a frame that could not be read."""
    counter = getattr(items, "unread", None)
    mine = counter.total if isinstance(counter, Unread) else 0
    return mine + sum(unread_frames(part) for part in getattr(items, "datasets", ()))
