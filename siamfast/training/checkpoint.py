"""The checkpoint of a training run: written whole or not at all, refused by another run, named when damaged."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from siamfast.io.files import differences, replacing
from siamfast.training.config import RunConfig, with_new_names

# Fields of the configuration that may differ when a run is resumed.
_FREE = {
    "out", "device", "workers", "log_every", "val_every", "val_pairs", "val_data", "save_every", "accumulate",
    "compile",
}  # fmt: skip


def write_checkpoint(path: Path, config: RunConfig, state: dict[str, Any]) -> None:
    """Write the state of a run; a kill leaves either the old or the new file.

    Raises:
        OSError: it cannot be written, e.g. because the disk is full.
    """
    buffer = io.BytesIO()  # so that a full disk is our OSError, not a RuntimeError from torch's writer
    torch.save({"config": dataclasses.asdict(config), **state}, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_checkpoint(content: bytes, path: Path, config: RunConfig, weights: Path) -> dict[str, Any]:
    """The state of the run to resume.

    Args:
        content: of the file.
        path: its name, for messages.
        config: the configuration of the run that resumes.
        weights: where the run writes its weights, for messages.

    Raises:
        ValueError: the file is damaged, or of a run with another configuration.
    """
    with naming_damage(path):
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        recorded = {k: v for k, v in with_new_names(state["config"]).items() if k not in _FREE}
        current = dataclasses.asdict(config)
        changes = differences(recorded, {name: current.get(name) for name in recorded})
    if changes:
        further = ""
        if recorded.get("steps") not in (None, current["steps"]):
            further = (
                f"; the learning rate of that run ends with its {recorded['steps']} steps: to train further, give "
                f"--init {weights} and another --out"
            )
        raise ValueError(
            f"out: {path} is of a run with another configuration ({changes}); give the same flags to resume it, or "
            f"another --out{further}"
        )
    return state


@contextlib.contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """A damaged file makes the unpickler and the modules raise anything; too little memory is no damage."""
    try:
        yield
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"out: {path} is damaged ({type(error).__name__}: {reason}); remove it to begin anew"
        ) from error
