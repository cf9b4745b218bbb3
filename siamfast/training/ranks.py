"""The processes that train together: torch.distributed's, as torchrun's environment describes them, or this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from siamfast.models.inference import choose_device

T = TypeVar("T")
PATIENCE = 1800  # seconds to wait for another process, e.g. for one that draws a slow batch


@dataclass(frozen=True)
class Ranks:
    """A process among those that train together.

    rank, count: its number among all of them; local_rank, local_count: among those of its machine. joined: whether
    their communication was begun for this training, so that it ends with it.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    joined: bool = False

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of a floating tensor over the processes; no gradient."""
        if self.count > 1:
            values = values.detach().clone()
            dist.all_reduce(values)
            values /= self.count
        return values

    def from_first(self, value: T) -> T:
        """The first process's value."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def copy_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite tensors by the first process's."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def of_the_row_before(self, rows: torch.Tensor) -> torch.Tensor:
        """For each row of this process's part of a batch the row before it in the batch; for the first the last."""
        if self.count == 1:
            return rows.roll(1, 0)
        parts = [torch.empty_like(rows) for _ in range(self.count)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat((parts[self.rank - 1][-1:], rows[:-1]))

    def in_turn(self, rows: Sequence[T]) -> list[T]:
        """The rows of all processes in one order: the first of each, the second of each, ..."""
        if self.count == 1:
            return list(rows)
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, list(rows))
        longest = max(map(len, parts))
        return [part[number] for number in range(longest) for part in parts if number < len(part)]

    def leave(self) -> None:
        """End the communication, if this training began it."""
        if self.joined:
            dist.destroy_process_group()


def join(device: str) -> tuple[Ranks, torch.device]:
    """This process's place among those that train together, and its device.

    WORLD_SIZE, RANK, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT come from torchrun; without WORLD_SIZE,
    or with 1, the process trains alone. Gradients go by NCCL between GPUs and by gloo between CPUs.

    Args:
        device: "auto", "cuda": of several processes, each takes the GPU of its number on the machine; "cpu", or for
            one process any other device.

    Raises:
        ValueError: a device that is not there, fewer GPUs than processes, or a variable that is not a number.
        OSError: the other processes cannot be reached.
    """
    count = _variable("WORLD_SIZE", 1)
    if count < 1:
        raise ValueError(f"WORLD_SIZE: got {count} in the environment, expected the number of processes")
    if count == 1:
        return Ranks(), choose_device(device)
    local = _variable("LOCAL_RANK", 0)
    joins = not dist.is_initialized()
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if joins and not os.environ.get(name)]
    if missing:
        raise ValueError(
            f"{missing[0]}: not set in the environment, but WORLD_SIZE is {count}: start with torchrun, or unset "
            "WORLD_SIZE to train in one process"
        )
    ranks = Ranks(_variable("RANK", 0), count, local, _variable("LOCAL_WORLD_SIZE", 1), joins)
    if ranks.rank >= count:
        raise ValueError(f"RANK: got {ranks.rank} in the environment, expected 0 to {count - 1}")
    if device not in ("auto", "cuda", "cpu"):
        raise ValueError(f"device: got {device!r} for {count} processes, expected auto, cuda or cpu")
    if device != "cpu" and torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"device: {ranks.local_count} processes on a machine with {torch.cuda.device_count()} GPUs; start one "
                "for each GPU (--nproc-per-node), or give --device cpu"
            )
        device = f"cuda:{local}"
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if joins:
        place = f"{os.environ['MASTER_ADDR']}:{_variable('MASTER_PORT', 0)}"
        if ranks.first:
            print(f"training in {count} processes; they meet at {place}", file=sys.stderr)
        try:
            _begin("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", ranks)
        except RuntimeError as error:
            others = "the other process" if count == 2 else f"the other {count - 1} processes"
            reason = " ".join(str(error).split())[:200]
            raise OSError(f"{others} of the training could not be reached at {place} ({reason})") from error
    return ranks, chosen


def _begin(backend: str, ranks: Ranks) -> None:
    """Begin the communication of the processes.

    Their addresses are exchanged under the number of torchrun's restart: without it, processes that were restarted read
    those of the dead.
    """
    patience = timedelta(seconds=PATIENCE)
    store = next(iter(rendezvous("env://", ranks.rank, ranks.count, timeout=patience)))[0]
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    dist.init_process_group(
        backend,
        store=PrefixStore(f"siamfast/{attempt}", store),
        rank=ranks.rank,
        world_size=ranks.count,
        timeout=patience,
    )


def of_process() -> str:
    """For the end of a message: which process of several says it; empty where one trains alone."""
    count, rank = os.environ.get("WORLD_SIZE") or "1", os.environ.get("RANK")
    return "" if count == "1" or rank is None else f" (process {rank} of {count})"


def is_loss(error: RuntimeError) -> bool:
    """Whether an error of torch.distributed means that another process has ended."""
    return any(words in str(error) for words in ("gloo", "NCCL", "closed by peer", "reset by peer"))


def _variable(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    if not value:
        return default
    if not value.isascii() or not value.isdecimal():
        raise ValueError(f"{name}: got {value!r} in the environment, expected a number, as torchrun sets it")
    return int(value)
