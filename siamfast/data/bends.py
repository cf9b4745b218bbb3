"""Bends: maps of the plane that deform a flat picture like a body, with an exact inverse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
POSES = 12  # per cycle


@dataclass(frozen=True)
class Bend:
    """A cycle of bends about the origin: rows are stretched and shifted sideways, then columns up and down.

    x' = x * (1 + wave(y)) + wave(y), then y' = y * (1 + wave(x')) + wave(x'): a body sways, and its legs or arms spread
    and close. Each wave is one sine, in units of `half`, the larger half side.

    Args:
        waves: (2, 2, 3): for each of the two steps, amplitude (shares of 1 and of `half`), phase and waves over 2 *
            half of the stretch and the shift.
        half: half of the picture's larger side.
    """

    waves: Array
    half: float

    @staticmethod
    def draw(rng: np.random.Generator, half: float) -> Bend:
        amplitude = np.abs(rng.normal(size=(2, 2))) * [[0.22, 0.12], [0.10, 0.06]]
        phase, count = rng.uniform(0, 2 * np.pi, (2, 2)), rng.uniform(0.3, 0.8, (2, 2))
        return Bend(np.stack([np.minimum(amplitude, 0.5), phase, count], 2), half)

    def times(self, share: float) -> Bend:
        """The same bend with a share of its strength; 0: no bend."""
        waves = self.waves.copy()
        waves[..., 0] *= share
        return replace(self, waves=waves)

    def forward(self, points: Array, pose: float) -> Array:
        """(P, 2) x, y of the flat picture's points in this pose; 12 poses are a cycle."""
        x, y = points[:, 0], points[:, 1]
        x = x * (1 + self._wave(0, 0, y, pose)) + self.half * self._wave(0, 1, y, pose)
        y = y * (1 + self._wave(1, 0, x, pose)) + self.half * self._wave(1, 1, x, pose)
        return np.stack([x, y], 1)

    def backward(self, x: Array, y: Array, pose: float) -> tuple[Array, Array]:
        """The places in the flat picture of the bent picture's places x, y."""
        y = (y - self.half * self._wave(1, 1, x, pose)) / (1 + self._wave(1, 0, x, pose))
        return (x - self.half * self._wave(0, 1, y, pose)) / (1 + self._wave(0, 0, y, pose)), y

    def _wave(self, step: int, kind: int, at: Array, pose: float) -> Array:
        amplitude, phase, count = self.waves[step, kind]
        turn = 2 * np.pi * pose / POSES
        return amplitude * np.sin(phase + turn + at * (np.pi * count / self.half))
