"""Where a trainer's pairs come from: the synthetic renderer, a store of curated crops, or annotated sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from siamfast.training.config import TrainConfig


def make_pairs(config: TrainConfig, source: str, length: int, *, seed: int) -> Dataset[Any]:
    """`length` training pairs from `source`: "synthetic", or a folder: a store, or annotated sequences."""
    shared: dict[str, Any] = {
        "seed": seed,
        "exemplar": config.exemplar,
        "instance": config.instance,
        "max_gap": config.max_gap,
        "max_shift": config.max_shift,
        "max_stretch": config.max_stretch,
        "negatives": config.negatives,
    }
    if source == "synthetic":
        from siamfast.data.synthetic import SyntheticPairs

        return SyntheticPairs(length, **shared)
    if not Path(source).is_dir():
        raise ValueError(f"data: {source!r} is neither 'synthetic' nor a folder")
    from siamfast.data.store_pairs import StorePairs, is_store

    if is_store(source):
        return StorePairs(source, length, **shared)
    from siamfast.data.pairs import SequencePairs

    return SequencePairs(source, length, **shared)
