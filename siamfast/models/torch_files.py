"""PyTorch files of anybody: the tensors of the model in them, by its own names, without running code from the file."""

from __future__ import annotations

import contextlib
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

# Under these a checkpoint keeps the state dict beside the optimizer's; the first that is there counts.
_ENTRIES = ("model_state_dict", "model_state", "state_dict", "model", "net", "network", "weights", "params", "module")
_ANYWHERE = ("module", "_orig_mod")  # put into names by DataParallel and torch.compile, around any part of a model
_IN_FRONT = ("model", "net", "network")  # the attribute of a trainer that all names begin with
_DEEPEST = 8  # entries within entries


def is_torch_file(path: Path) -> bool:
    """Whether the file starts as torch.save's do (a zip archive, or a bare pickle of old)."""
    if not path.is_file():
        raise FileNotFoundError(f"weights: {path} is not a file")
    with path.open("rb") as file:
        start = file.read(9)
    # Safetensors begin with the length of their header, which may look like either; then comes a "{".
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[8:] != b"{")


def read_torch_file(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a file of torch.save, its names unwrapped: see `unwrapped`.

    It is also found where a checkpoint keeps it beside or within other things. Only tensors and plain containers are
    made: NumPy scalars, settings and whatever else was pickled with them become empty stand-ins, so none of its code
    runs.

    Raises:
        ValueError: the file is damaged, or holds no state dict.
    """
    loaded = _load(path)
    for _ in range(_DEEPEST):
        inner = _inner(loaded)
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, Mapping) or not all(isinstance(key, str) for key in loaded):
        raise ValueError(f"weights: {path} holds a {type(loaded).__name__}, expected a state dict (model.state_dict())")
    # Counters and scores beside the tensors go; what has a dot in its name is a part of the model, right or wrong.
    state = {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor) or "." in key}
    if not state:
        raise ValueError(f"weights: {path} holds no tensors; its entries are {', '.join(sorted(loaded)[:9]) or 'none'}")
    return unwrapped(state, source=str(path))


def unwrapped(state: Mapping[str, Any], *, source: str = "the state dict") -> dict[str, Any]:
    """A state dict without what DataParallel, torch.compile and trainers put into its names, in any nesting.

    Raises:
        ValueError: two names that become the same.

    >>> list(unwrapped({"model._orig_mod.a.weight": 0, "model._orig_mod.b.module.weight": 1}))
    ['a.weight', 'b.weight']
    """
    names = {key: [word for word in key.split(".") if word not in _ANYWHERE] for key in state}
    if "n_averaged" in names and len(names) > 1:  # AveragedModel's counter
        del names["n_averaged"]
    while names and all(len(words) > 1 and words[0] in _IN_FRONT for words in names.values()):
        if len({words[0] for words in names.values()}) > 1:
            break
        names = {key: words[1:] for key, words in names.items()}
    tensors: dict[str, Any] = {}
    for key, words in names.items():
        name = ".".join(words)
        if name in tensors:
            raise ValueError(f"weights: {source} has {name} more than once, under different wrappers ({key})")
        tensors[name] = state[key]
    return tensors


def _inner(loaded: Any) -> Any:
    """What a checkpoint keeps its model in; None where `loaded` is it."""
    if not isinstance(loaded, Mapping) or any(isinstance(v, torch.Tensor) and "." in str(k) for k, v in loaded.items()):
        return None
    known = [loaded[name] for name in _ENTRIES if _has_tensors(loaded.get(name))]
    others = [value for value in loaded.values() if _has_tensors(value)]
    return known[0] if known else others[0] if len(others) == 1 else None


def _has_tensors(value: Any, depth: int = _DEEPEST) -> bool:
    """Whether it is a mapping of names with tensors in it, itself or further in; an optimizer's has numbers."""
    if not isinstance(value, Mapping) or depth == 0:
        return False
    return any(
        isinstance(k, str) and (isinstance(v, torch.Tensor) or _has_tensors(v, depth - 1)) for k, v in value.items()
    )


class _StandIn:
    """Of an object that is not made: it takes whatever the pickle says of it and keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _StandIn:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def _load(path: Path) -> Any:
    try:
        # What torch makes by itself, tensors above all, it still makes: a stand-in counts only where it would refuse.
        stand_ins: list[Any] = [
            (type(name.rpartition(".")[2], (_StandIn,), {}), name) for name in sorted(_asked_for(path))
        ]
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of archives of TorchScript, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged or foreign file makes the unpickler raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].removeprefix("Weights only load failed. ")
        raise ValueError(f"weights: {path} cannot be loaded as tensors ({reason[:200]})") from None


def _asked_for(path: Path) -> set[str]:
    """Names of all classes and functions that the pickles in a file ask for, read without unpickling."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inner = [name for name in archive.namelist() if name.endswith("data.pkl")]
            names: set[str] = set()
            for name in inner:
                with archive.open(name) as file:
                    names |= _globals(file)  # type: ignore[arg-type]
            return names
    with path.open("rb") as file:  # of old: magic number, version, system, object and the storages' keys in a row
        return set().union(*(_globals(file) for _ in range(5)))


def _globals(file: BinaryIO) -> set[str]:
    names = set()
    with contextlib.suppress(ValueError, pickle.UnpicklingError):  # torch says what is wrong with it
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL":
                names.add(str(argument).replace(" ", "."))
    return names
