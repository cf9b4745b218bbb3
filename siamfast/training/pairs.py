"""Where a trainer's pairs come from: the synthetic renderer, or a folder of annotated sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from siamfast.training.config import TrainConfig


def make_pairs(config: TrainConfig, source: str, length: int, *, seed: int) -> Dataset[Any]:
    """`length` training pairs from `source`: "synthetic", or the path of a folder of annotated sequences."""
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
    from siamfast.data.pairs import SequencePairs

    return SequencePairs(source, length, **shared)
