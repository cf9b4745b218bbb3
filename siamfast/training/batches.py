"""Batches of a training: drawn in other processes, and on a GPU copied there ahead of their use."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from siamfast.data.stream import PairStream
from siamfast.workers import begin_worker

Batch = dict[str, torch.Tensor]  # name -> a row per item


def load(stream: PairStream, workers: int, processes: int, device: torch.device) -> Iterator[Batch]:
    """The batches of a stream.

    Args:
        stream: from which to draw.
        workers: processes that draw; -1: one per spare core, at most 8; 0: this one.
        processes: trainings that share the machine's cores.
        device: for which batches are kept in pinned memory, if it is a GPU.
    """
    if workers < 0:
        workers = max(1, min(8, (len(os.sched_getaffinity(0)) - processes) // processes))
    loader: DataLoader[Any] = DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        worker_init_fn=begin_worker,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
    )
    return _plain_errors(loader)


def _plain_errors(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of a data loader; an error in a worker process is raised as there, without the worker's traceback."""
    try:
        yield from batches
    except RuntimeError as error:
        if "shared memory" in str(error) or "/torch_" in str(error):
            raise OSError(
                "workers: the shared memory (/dev/shm) is too small for the batches that they draw: make it larger, or "
                "give --workers 0"
            ) from error
        raise
    except (ValueError, OSError) as error:
        first, _, trace = str(error).partition("\n")
        if not first.startswith("Caught "):
            raise
        line = trace.strip().splitlines()[-1].partition(": ")[2]
        raise (ValueError(line) if isinstance(error, ValueError) else OSError(line)) from None


def copied_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches, which are in pinned memory, on a GPU: each is copied while the one before it is used."""
    copies = torch.cuda.Stream(device)
    copied: Batch | None = None
    for batch in batches:
        ready = copied
        if ready is not None:
            _wait_for(ready, copies, device)
        with torch.cuda.stream(copies):
            copied = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
        if ready is not None:
            yield ready
    if copied is not None:
        _wait_for(copied, copies, device)
        yield copied


def _wait_for(batch: Batch, copies: torch.cuda.Stream, device: torch.device) -> None:
    """Make the device's work of now wait for the copies, and their memory be kept until that work is done."""
    now = torch.cuda.current_stream(device)
    now.wait_stream(copies)
    for values in batch.values():
        values.record_stream(now)
