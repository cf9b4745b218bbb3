"""Count frames that data sets draw but cannot read and therefore skip, over all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import get_worker_info

TRIES = 20  # failed draws of one item before it is an error
_SLOTS = 257


class Unread:
    """A count shared with the processes of a data loader; each has its own slot, so no count is lost."""

    def __init__(self) -> None:
        self._counts = torch.zeros(_SLOTS, dtype=torch.int64).share_memory_()

    def add(self) -> None:
        info = get_worker_info()
        self._counts[0 if info is None else 1 + info.id % (_SLOTS - 1)] += 1

    @property
    def total(self) -> int:
        return int(self._counts.sum())


def unread_frames(items: Any) -> int:
    """How often a data set, or the data sets mixed in it, drew an unreadable frame."""
    counter = getattr(items, "unread", None)
    own_total = counter.total if isinstance(counter, Unread) else 0
    return own_total + sum(unread_frames(part) for part in getattr(items, "datasets", ()))
