"""Device tensors that are made once and kept."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Made = TypeVar("Made")


def make_lasting(make: Callable[[], Made], device: torch.device) -> Made:
    """What `make` returns, in memory that no CUDA graph owns.

    While a graph is warmed up or captured (`torch.compile(mode="reduce-overhead")`, `torch.cuda.graph`) the thread that
    does so allocates from the graph's own pool, which is written again at every replay. Other threads do not.

    Args:
        make: makes tensors on `device`.
        device: where; on a CPU `make` is simply called.
    """
    if device.type != "cuda":
        return make()

    def made() -> Made:
        result = make()
        torch.cuda.current_stream(device).synchronize()  # the caller reads it on another stream
        return result

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(made).result()
