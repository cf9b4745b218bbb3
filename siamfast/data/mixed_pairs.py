"""Several data sets combined into one, each with its share of the items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from siamfast.data.seeds import Stream


class MixedPairs(Dataset[dict[str, torch.Tensor]]):
    """Item i is the i-th item of a data set drawn by the weights; it depends on (seed, i) alone.

    Args:
        datasets: with items of the same kind, each at least `length` long.
        weights: one per data set, 0 or more, not all 0; a share is a weight over their sum.
        length: number of items.
        seed: 0 or more.

    Raises:
        ValueError: a number outside its range.

    >>> from siamfast.data.synthetic import SyntheticPairs
    >>> mixed = MixedPairs([SyntheticPairs(10), SyntheticPairs(10, seed=1)], [3, 1], 10)
    >>> len(mixed), mixed[0]["search"].shape
    (10, torch.Size([3, 255, 255]))
    """

    def __init__(
        self, datasets: Sequence[Dataset[Any]], weights: Sequence[float], length: int, *, seed: int = 0
    ) -> None:
        shares = np.asarray(weights, dtype=float)
        if len(datasets) != len(shares) or not len(shares):
            raise ValueError(f"weights: got {len(shares)} for {len(datasets)} data sets, expected one each")
        if not (np.isfinite(shares) & (shares >= 0)).all() or shares.sum() <= 0:
            raise ValueError(f"weights: got {list(weights)}, expected 0 or more, not all 0")
        if length < 0 or seed < 0:
            raise ValueError(f"length, seed: got {length}, {seed}, expected 0 or more")
        short = [len(d) for d in datasets if len(d) < length]  # type: ignore[arg-type]
        if short:
            raise ValueError(f"datasets: got one of {short[0]} items, expected {length} or more")
        self.datasets, self.length, self.seed = list(datasets), length, seed
        self._edges = np.cumsum(shares) / shares.sum()

    def __len__(self) -> int:
        return self.length

    def which(self, index: int) -> int:
        """The number of the data set of item `index`."""
        draw = np.random.default_rng((Stream.MIXED_PAIRS, self.seed, index)).random()
        return min(int(np.searchsorted(self._edges, draw, side="right")), len(self.datasets) - 1)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(f"index: got {index}, expected 0 to {self.length - 1}")
        item: dict[str, torch.Tensor] = self.datasets[self.which(index)][index]
        return item
