"""The figures of a training under way: losses, items per second, and the share of time spent waiting for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from siamfast.training.ranks import Ranks


class Progress:
    """Figures of the steps since the last `scalars`, over all processes that train.

    Args:
        batch_size: items in a batch, over all processes.
        unit: name of the items.
        ranks: the processes.
    """

    def __init__(self, batch_size: int, unit: str, ranks: Ranks) -> None:
        self._batch_size, self._unit, self._ranks = batch_size, unit, ranks
        self._unread: list[torch.Tensor] = []
        self._losses: list[float] = []
        self._waited, self._since = 0.0, time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A context in which a batch is waited for."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A context of which the time does not count."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began

    def add(self, loss: torch.Tensor) -> None:
        """Add the loss of a step on this process's items; it is not read, because that waits for the device."""
        self._unread.append(loss)

    def read(self) -> list[float]:
        """The losses that were added since the last call, means over the processes."""
        losses: list[float] = self._ranks.mean(torch.stack(self._unread).float().cpu()).tolist()
        self._unread = []
        self._losses += losses
        return losses

    def scalars(self, learning_rate: float) -> dict[str, float]:
        """The figures of the steps that were read, by TensorBoard's names."""
        spent = time.perf_counter() - self._since
        rate = len(self._losses) * self._batch_size / spent
        figures = {
            "train/loss": sum(self._losses) / len(self._losses),
            "train/learning_rate": learning_rate,
            f"train/{self._unit}_per_second": rate,
            f"train/{self._unit}_per_second_per_process": rate / self._ranks.count,
            "train/data_wait_share": float(self._ranks.mean(torch.tensor(self._waited / spent))),
        }
        self._losses, self._waited, self._since = [], 0.0, time.perf_counter()
        return figures
