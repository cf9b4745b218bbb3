"""A trainer's sources of pairs: the synthetic renderer, stores of curated crops, data sets on disk, or several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from siamfast.data.readers import LAYOUTS
from siamfast.training.config import GuidedConfig, MobileConfig, PairConfig

_GENERATED = ("synthetic", "static")  # generated, not read from a folder


def make_pairs(config: PairConfig, source: str, length: int, *, seed: int) -> Dataset[Any]:
    """`length` training pairs from `source`: "synthetic", "static" (views of one photograph), a store, or
    [KIND:]FOLDER, a data set on disk; or several of them with weights, as in "curated=3,got10k:GOT-10k=1,synthetic".

    Raises:
        ValueError: none of these, or a source without pairs.
    """
    if source in _GENERATED or Path(source).is_dir():  # a name may have commas
        return _single_source(config, source, length, seed)
    sources, weights = [], []
    for part in source.split(","):
        name, _, weight = part.rpartition("=") if "=" in part else (part, "", "1")
        try:
            weights.append(float(weight))
        except ValueError:
            raise ValueError(f"data: {part!r} ends in {weight!r}, expected a weight, as in {name}=2") from None
        sources.append(_single_source(config, name, length, seed))
    if len(sources) == 1 and weights[0] > 0:
        return sources[0]
    from siamfast.data.mixed_pairs import MixedPairs

    return MixedPairs(sources, weights, length, seed=seed)


def _single_source(config: PairConfig, source: str, length: int, seed: int) -> Dataset[Any]:
    shared: dict[str, Any] = {
        "seed": seed,
        "exemplar": config.exemplar,
        "instance": config.instance,
        "max_shift": config.max_shift,
        "max_stretch": config.max_stretch,
        "negatives": config.negatives,
    }
    if isinstance(config, MobileConfig) and config.guided:
        shared["recent"] = config.recent
    if source == "static":
        if not config.photos:
            raise ValueError("data: 'static' are views of photographs: give --photos FOLDER too")
        from siamfast.data.static_pairs import StaticPairs

        return StaticPairs(config.photos, length, **shared)
    shared["max_gap"] = config.max_gap
    if isinstance(config, GuidedConfig) and config.guidance != "none":
        shared |= {"previous": config.previous, "first_frames": config.first_frames}
    if source == "synthetic":
        from siamfast.data.synthetic import SyntheticPairs

        return SyntheticPairs(length, photos=config.photos or None, **shared)
    kind, _, folder = source.partition(":")
    if Path(source).is_dir() or kind not in LAYOUTS:
        kind, folder = "", source
    if not Path(folder).is_dir():
        raise ValueError(f"data: {folder!r} is neither 'synthetic' nor a folder")
    shared["filter"] = config.filter
    from siamfast.data.store_pairs import StorePairs, is_store

    if not kind and is_store(folder):
        return StorePairs(folder, length, **shared)
    from siamfast.data.sequence_pairs import SequencePairs

    return SequencePairs(folder, length, kind=kind or "folder", **shared)
