"""The random streams of the data sets, in one place, so that no two are the same by accident."""

from __future__ import annotations

from enum import IntEnum


class Stream(IntEnum):
    """First word of the seed of `numpy.random.default_rng`; the user's seed and the index follow it."""

    VIDEO = 0  # SyntheticVideo: clips for viewing are never scenes of training
    SYNTHETIC_PAIRS = 1
    CLIPS = 2
    TRACK_PAIRS = 3
    STATIC_PAIRS = 4
    MIXED_PAIRS = 5
    TEXTURES = 77
