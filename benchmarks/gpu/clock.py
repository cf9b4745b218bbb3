"""Microseconds on the device: of a call and of a replay of its graph, between CUDA events; of each kernel of a call."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

Run = Callable[[], Any]
FLUSH = 1 << 28  # bytes written before every call: more than any chip's L2
CALLS = 10  # calls per graph


@functools.cache
def _flush(device: str) -> torch.Tensor:
    return torch.empty(FLUSH if device == "cuda" else 16, dtype=torch.uint8, device=device)


def microseconds(run: Run, device: str, seconds: float = 0.05, turns: int = 200) -> float:
    """Median of calls that meet a cold L2 cache, for some `seconds` in all and 3 turns at least.

    The host queues calls ahead while the device clears the cache: short launches are hidden, long ones are in the time.
    """
    run()
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    once = max(time.perf_counter() - began, 1e-6)
    count = max(3, min(turns, int(seconds / once)))
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
    for begin, end in events:
        _flush(device).zero_()
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return round(statistics.median(begin.elapsed_time(end) for begin, end in events) * 1e3, 3)


def graph_microseconds(run: Run, turns: int = 20) -> float:
    """Median of one call in replays of a CUDA graph of CALLS calls: no launches by the host, a warm L2 cache."""
    before, side_stream = torch.cuda.current_stream(), torch.cuda.Stream()
    side_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side_stream):
        for _ in range(2):  # lazy initialisations are not captured
            run()
    torch.cuda.current_stream().wait_stream(side_stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for _ in range(CALLS):
                run()
    finally:
        torch.cuda.set_stream(before)  # a capture that fails leaves its own
    taken = []
    for _ in range(turns):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        taken.append(begin.elapsed_time(end))
    return round(statistics.median(taken) * 1e3 / CALLS, 3)


def kernel_microseconds(run: Run, calls: int = 5) -> dict[str, float]:
    """Of one call, summed by the kernels' names, the longest first."""
    from torch.profiler import ProfilerActivity, profile

    run()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(calls):
            run()
        torch.cuda.synchronize()
    times = {event.key[:80]: event.device_time_total / calls for event in profiled.key_averages()}
    return {name: round(us, 2) for name, us in sorted(times.items(), key=lambda item: -item[1]) if us > 0}
