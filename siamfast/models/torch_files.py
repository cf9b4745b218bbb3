"""Read the model's tensors from anybody's PyTorch files, by the model's own names, without running code from them."""

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

# Keys of the model's state dict in a checkpoint with an optimizer's; the first one present counts.
_ENTRIES = ("model_state_dict", "model_state", "state_dict", "model", "net", "network", "weights", "params", "module")
_ANYWHERE = ("module", "_orig_mod")  # parts of names that DataParallel and torch.compile add, anywhere in a model
_IN_FRONT = ("model", "net", "network")  # attributes of a trainer with which all names may begin
_DEEPEST = 8  # levels of nested entries


def is_torch_file(path: Path) -> bool:
    """Whether the file starts like those of torch.save (a zip archive, or a bare pickle of old versions)."""
    if not path.is_file():
        raise FileNotFoundError(f"weights: {path} is not a file")
    with path.open("rb") as file:
        start = file.read(9)
    # Safetensors begin with the header's length, which may look like either; then comes a "{".
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[8:] != b"{")


def read_torch_file(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a file of torch.save, with unwrapped names: see `unwrapped`.

    It may be beside or within other entries of a checkpoint. Only tensors and plain containers are made: NumPy scalars,
    settings and other pickled objects become empty stand-ins, so none of their code runs.

    Raises:
        ValueError: the file is damaged, or has no state dict.
    """
    loaded = _load(path)
    for _ in range(_DEEPEST):
        inner = _inner(loaded)
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, Mapping) or not all(isinstance(key, str) for key in loaded):
        raise ValueError(f"weights: {path} holds a {type(loaded).__name__}, expected a state dict (model.state_dict())")
    # Drop counters and scores beside the tensors; an entry with a dot in its name is a part of the model, right or
    # wrong.
    state = {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor) or "." in key}
    if not state:
        raise ValueError(f"weights: {path} holds no tensors; its entries are {', '.join(sorted(loaded)[:9]) or 'none'}")
    return unwrapped(state, source=str(path))


def unwrapped(state: Mapping[str, Any], *, source: str = "the state dict") -> dict[str, Any]:
    """A state dict without the parts of names that DataParallel, torch.compile and trainers add, in any nesting.

    Raises:
        ValueError: two names become the same.

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
    """A checkpoint's entry for its model; None if `loaded` itself is the model's."""
    if not isinstance(loaded, Mapping) or any(isinstance(v, torch.Tensor) and "." in str(k) for k, v in loaded.items()):
        return None
    named = [loaded[name] for name in _ENTRIES if _has_tensors(loaded.get(name))]
    others = [value for value in loaded.values() if _has_tensors(value)]
    return named[0] if named else others[0] if len(others) == 1 else None


def _has_tensors(value: Any, depth: int = _DEEPEST) -> bool:
    """Whether it is a mapping of names with tensors, at any level; an optimizer's mapping has numbers as keys."""
    if not isinstance(value, Mapping) or depth == 0:
        return False
    return any(
        isinstance(k, str) and (isinstance(v, torch.Tensor) or _has_tensors(v, depth - 1)) for k, v in value.items()
    )


class _StandIn:
    """Stands in for a pickled object that is not made; it accepts any state and keeps none."""

    def __new__(cls, *_: Any, **__: Any) -> _StandIn:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def _load(path: Path) -> Any:
    try:
        # torch still makes the objects that it allows, such as tensors: a stand-in is used only where it would refuse.
        stand_ins: list[Any] = [
            (type(name.rpartition(".")[2], (_StandIn,), {}), name) for name in sorted(_referenced_names(path))
        ]
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript archives, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # damaged and foreign files make the unpickler raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].removeprefix("Weights only load failed. ")
        raise ValueError(f"weights: {path} cannot be loaded as tensors ({reason[:200]})") from None


def _referenced_names(path: Path) -> set[str]:
    """Names of all classes and functions that the pickles in a file refer to, read without unpickling."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inner = [name for name in archive.namelist() if name.endswith("data.pkl")]
            names: set[str] = set()
            for name in inner:
                with archive.open(name) as file:
                    names |= _globals(file)  # type: ignore[arg-type]
            return names
    with path.open("rb") as file:  # old files: magic number, version, system, object and the storages' keys in a row
        return set().union(*(_globals(file) for _ in range(5)))


def _globals(file: BinaryIO) -> set[str]:
    names = set()
    with contextlib.suppress(ValueError, pickle.UnpicklingError):  # torch reports what is wrong with the file
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL":
                names.add(str(argument).replace(" ", "."))
    return names
