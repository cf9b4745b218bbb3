"""The part of a data set to evaluate, and its name."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

NAMES = ("train", "val", "test", "all")
_LASOT_TEST = "testing_set.txt"  # part of LaSOT, one name per line


class Subset(NamedTuple):
    """name: for the report. root: folder of its sequences. listed: the names of LaSOT's test set; None: all sequences
    count."""

    name: str
    root: Path
    listed: frozenset[str] | None = None

    def has(self, sequence: str) -> bool:
        """Whether a sequence of this name belongs to it."""
        return self.listed is None or (sequence in self.listed) == (self.name == "test")


def choose_subset(dataset: str, root: Path, requested: str | None) -> Subset:
    """The part of a data set to evaluate.

    Args:
        dataset: one of PROTOCOLS. root: its folder. requested: one of NAMES; None: GOT-10k's val, LaSOT's test if its
            list exists, else all.

    Raises:
        ValueError: a part that this data set, or the one on disk, does not have.
    """
    if dataset == "got10k":
        return _got10k(root, requested)
    listing = root / _LASOT_TEST
    if dataset == "lasot" and listing.is_file():
        if requested == "val":
            raise ValueError("--subset: got 'val', expected train, test or all of LaSOT")
        names = frozenset(listing.read_text(encoding="utf-8-sig").split())
        return Subset(requested or "test", root, None if requested == "all" else names)
    if requested not in (None, "all"):
        lacking = f"{listing} is not there" if dataset == "lasot" else f"a data set of the layout {dataset} has none"
        raise ValueError(f"--subset: got {requested!r}, but {lacking}")
    return Subset("all", root)


def _got10k(root: Path, requested: str | None) -> Subset:
    parts = [name for name in NAMES if (root / name).is_dir()]
    if parts:
        name = requested or "val"
        if name not in parts:
            raise ValueError(f"--subset: got {name!r}, but {root} has {', '.join(parts)}")
        return Subset(name, root / name)
    if root.name in NAMES and requested not in (None, root.name):
        raise ValueError(f"--subset: got {requested!r}, but ROOT is {root}")
    return Subset(root.name if root.name in NAMES else requested or "all", root)
