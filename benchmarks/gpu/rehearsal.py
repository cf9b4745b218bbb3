"""Stand-ins on a CPU for the parts of torch.cuda that the sections use: the same lines run without a GPU.

Nothing is measured by them. `torch.cuda.is_available` stays false, for the library under test asks it too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self.at = 0.0

    def record(self, stream: Any = None) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, end: Event) -> float:
        return (end.at - self.at) * 1e3


class Stream:
    def wait_stream(self, other: Stream) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Graph:
    def replay(self) -> None:
        time.sleep(1e-5)


@contextmanager
def _inside(_: Any) -> Iterator[None]:
    yield


def replace_cuda() -> None:
    cuda: Any = torch.cuda
    cuda.Event, cuda.Stream, cuda.CUDAGraph = Event, Stream, Graph
    cuda.stream = cuda.graph = _inside
    cuda.set_stream = lambda _: None
    cuda.synchronize, cuda.current_device, cuda.current_stream = (lambda *_: None), (lambda: 0), Stream
    cuda.get_device_name = lambda *_: "a CPU that stands in"
    cuda.get_device_properties = lambda *_: SimpleNamespace(
        name="a CPU that stands in", multi_processor_count=1, gcnArchName=""
    )
