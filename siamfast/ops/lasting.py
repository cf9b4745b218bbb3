"""Make device tensors that are cached for later calls."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Made = TypeVar("Made")


def make_lasting(make: Callable[[], Made], device: torch.device) -> Made:
    """The result of `make`, in memory that no CUDA graph owns.

    While a graph is warmed up or captured (`torch.compile(mode="reduce-overhead")`, `torch.cuda.graph`) that thread
    allocates from the graph's own pool, which every replay overwrites. Other threads do not.

    Args:
        make: makes tensors on `device`.
        device: their device; on a CPU `make` is simply called.
    """
    if device.type != "cuda":
        return make()

    def made() -> Made:
        result = make()
        torch.cuda.current_stream(device).synchronize()  # the caller reads it on another stream
        return result

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(made).result()
