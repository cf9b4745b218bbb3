"""Chooses the configuration of a kernel: the default, or with SIAMFAST_TUNE=1 the fastest of a short list.

Winners are kept on disk (SIAMFAST_CACHE, by default siamfast/ in the user's cache folder), one file per kind of GPU
and version of Triton, and are used from then on, also without SIAMFAST_TUNE.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton

Config = dict[str, int]


@functools.cache
def cache_file(device: torch.device) -> Path:
    """The file of this GPU's winners."""
    root = (
        os.environ.get("SIAMFAST_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siamfast"
    )
    name = "".join(c if c.isalnum() else "-" for c in torch.cuda.get_device_name(device))
    return Path(root) / f"{name}-triton-{triton.__version__}.json"


@functools.cache
def _winners(path: Path) -> dict[str, Config]:
    """key -> configuration, read once; a tuned shape is added here and to the file."""
    return _read(path)


def _read(path: Path) -> dict[str, Config]:
    try:
        winners = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}  # none yet, or a damaged file: it is only a cache
    return winners if isinstance(winners, dict) else {}


def _write(path: Path, winners: dict[str, Config]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(winners, file, indent=1, sort_keys=True)
        os.replace(file.name, path)
    except OSError:
        pass  # a read-only home: tuned again next time


def tuned(
    tensor: torch.Tensor,  # of the device that runs
    key: tuple[Any, ...],  # kernel, dtype and sizes
    default: Config,
    candidates: Callable[[], list[Config]],
    run: Callable[[Config], Any],
) -> Config:
    """The configuration for `key`; candidates that do not compile or do not fit the chip are passed over."""
    if not tensor.is_cuda:
        return default  # the interpreter
    path = cache_file(tensor.device)
    winners, tunes = _winners(path), os.environ.get("SIAMFAST_TUNE") == "1"
    if not winners and not tunes:  # nearly always; saves making the name
        return default
    name = " ".join(map(str, key))
    if name in winners:
        return winners[name]
    if not tunes or torch.cuda.is_current_stream_capturing():
        return default
    times: list[tuple[float, int]] = []
    configs = [default, *(c for c in candidates() if c != default)]
    for number, config in enumerate(configs):
        try:
            times.append((float(triton.testing.do_bench(lambda c=config: run(c), return_mode="median")), number))
        except (triton.runtime.errors.OutOfResources, triton.compiler.errors.CompilationError):
            continue
    best = configs[min(times)[1]] if times else default
    # Read again: another process may have added its own.
    winners.update(_read(path))
    winners[name] = best
    _write(path, winners)
    return best
