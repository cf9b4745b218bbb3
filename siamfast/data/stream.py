"""A stream of batches that is the same for any number of readers and resumes at any position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset, default_collate, get_worker_info


class PairStream(IterableDataset[dict[str, torch.Tensor]]):
    """The batches of a map-style data set in order, from the `start`-th on: for DataLoader(stream, batch_size=None).

    With n workers, each makes every n-th batch, and DataLoader takes them in turn, so the batches and their order do
    not depend on n. The position in the stream is the number of batches taken: a stream with that `start` continues
    exactly where another one stopped.

    Args:
        items: a map-style data set with items that depend on their index alone.
        batch_size: items in a batch.
        start: the first batch.
        stop: the batch before which the stream ends; None: after the last one, which may be shorter.
        rank, ranks: number of this process and of all processes that train together; each takes every `ranks`-th batch.

    Raises:
        ValueError: a number outside its range.

    >>> from torch.utils.data import DataLoader
    >>> from siamfast.data.synthetic import SyntheticPairs
    >>> stream = PairStream(SyntheticPairs(100), 4, start=23)
    >>> [batch["box"].shape for batch in DataLoader(stream, batch_size=None)]
    [torch.Size([4, 4]), torch.Size([4, 4])]
    """

    def __init__(
        self,
        items: Dataset[Any],
        batch_size: int,
        *,
        start: int = 0,
        stop: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}, expected 1 or more")
        self.length = len(items)  # type: ignore[arg-type]
        batches = -(-self.length // batch_size)
        if not 0 <= rank < ranks:
            raise ValueError(f"rank: got {rank} of {ranks}, expected 0 to {ranks - 1}")
        if start < 0 or (stop is not None and not 0 <= stop <= batches):
            raise ValueError(f"start, stop: got {start}, {stop}, expected 0 to {batches}, the number of batches")
        self.items, self.batch_size, self.start, self.stop = items, batch_size, start, batches if stop is None else stop
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return len(range(self.start + self.rank, self.stop, self.ranks))

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        for number in range(self.start + self.rank, self.stop, self.ranks)[worker::workers]:
            first = number * self.batch_size
            last = min(first + self.batch_size, self.length)
            yield default_collate([self.items[index] for index in range(first, last)])
