"""Random numbers of a batch that is shared out: a part gets the numbers that its rows get in the whole batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Draws:
    """Random numbers for the rows of one of several equal parts of a batch.

    Whatever the number of parts, a row gets the same numbers: they are drawn for all rows of the batch.

    Args:
        generator: of the CPU.
        part, parts: this part's number, and the number of parts.

    >>> import torch
    >>> whole = Draws(torch.Generator().manual_seed(1)).rand(4)
    >>> second = Draws(torch.Generator().manual_seed(1), part=1, parts=2).rand(2)
    >>> bool((whole[2:] == second).all())
    True
    """

    generator: torch.Generator
    part: int = 0
    parts: int = 1

    def _rows(self, whole: torch.Tensor) -> torch.Tensor:
        count = len(whole) // self.parts
        return whole[self.part * count : (self.part + 1) * count]

    def rand(self, count: int, *shape: int) -> torch.Tensor:
        """(count, *shape) float32, uniform in [0, 1)."""
        return self._rows(torch.rand(count * self.parts, *shape, generator=self.generator))

    def randn(self, count: int, *shape: int) -> torch.Tensor:
        """(count, *shape) float32, normal."""
        return self._rows(torch.randn(count * self.parts, *shape, generator=self.generator))

    def randint(self, high: int, count: int) -> torch.Tensor:
        """(count,) int64 in [0, high)."""
        return self._rows(torch.randint(high, (count * self.parts,), generator=self.generator))

    def one_for_all(self, high: int) -> int:
        """An integer in [0, high), the same for all rows of the batch."""
        return int(torch.randint(high, (1,), generator=self.generator))
