"""The measurement of all suites: values first, then all contenders in turn, one row per case.

A suite file (bench_<op>.py) gives `cases(quick)`; conftest.py makes pytest items of them, gpu/ runs them on a GPU.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import json
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

import siamfast
from siamfast.comparison import interleaved
from siamfast.machine import cpu_name

OURS = "siamfast"
FIRST = "first version"  # of our code, before the op that is measured
Run = Callable[[], Any]
Row = dict[str, Any]


class Made(NamedTuple):
    """A case with its inputs: the timed calls by name, ours under `siamfast`, and a check that raises AssertionError if
    a name's values are wrong."""

    runs: dict[str, Run]
    check: Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """One computation on one size.

    make: (device, with the peers under torch.compile) -> inputs, runs, check. contenders: the names that make() gives
    without compilation, ours first. bytes: each input read once, each output written once; flop: of the definition;
    None where a floor makes no sense. unit, per: the yield of a call, for suites whose figure is a rate ("frames", 1).
    """

    op: str
    name: str
    direction: str  # forward, forward+backward, call
    shapes: dict[str, tuple[int, ...]]
    contenders: tuple[str, ...]
    make: Callable[[str, bool], Made]
    dtype: str = "float32"
    bytes: int | None = None
    flop: int | None = None
    unit: str | None = None
    per: int = 1
    extra: Callable[[str], Row] | None = None  # device -> more columns: seconds by stage, ...
    compilable: bool = False  # make(device, True) gives a contender "compiled"

    @property
    def group(self) -> str:
        return f"{self.op}, {self.name}, {self.direction}"


# ------------------------------------------------------------------------------------------------------------ checking
def require_close(name: str, result: torch.Tensor, truth: torch.Tensor, relative: float) -> None:
    """No element further from the truth than `relative` of the truth's largest."""
    truth = truth.detach().double().cpu()
    difference = float((result.detach().double().cpu() - truth).abs().max()) if truth.numel() else 0.0
    if not difference <= relative * float(truth.abs().max()) + 1e-30:
        raise AssertionError(f"{name} is wrong: off by {difference:.3g}, largest value {float(truth.abs().max()):.3g}")


# ------------------------------------------------------------------------------------------------------------- timing
def steady_heap() -> None:
    """Keep freed memory: otherwise large results take new pages from the system in one process and not in the next,
    which doubles or halves the time of the same code, ours and the peers'."""
    if platform.system() == "Linux":
        libc = ctypes.CDLL(None)
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**30)


def peak_bytes(run: Run, device: str) -> int | None:
    """Memory that a call needs beyond the earlier use: of the allocator on a GPU, of the process on a CPU.

    None on systems other than Linux. The call was made before, so that memory that it keeps is allocated.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
        before = _status("VmRSS")
        run()
        return max(0, _status("VmHWM") - before)
    except (OSError, AttributeError):
        return None


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


# --------------------------------------------------------------------------------------------------------------- floor
@functools.cache
def speeds(device: str) -> dict[str, float]:
    """Bytes per second of a copy and FLOP per second of a float32 matrix product on this machine, for the floors."""
    count, side = (1 << 28, 8192) if device == "cuda" else (1 << 24, 1024)
    source, target = torch.randn(2, count, device=device)
    a = torch.randn(side, side, device=device)
    product = torch.empty_like(a)
    times = interleaved({"copy": lambda: target.copy_(source), "gemm": lambda: torch.mm(a, a, out=product)}, 0.3)
    copy, gemm = (statistics.median(times[name]) for name in ("copy", "gemm"))
    return {"bytes": 8 * count / copy, "flop": 2 * side**3 / gemm}


# ---------------------------------------------------------------------------------------------------------------- rows
@functools.cache
def about(device: str) -> Row:
    """The origin of a row: commit, device, versions."""
    try:
        import triton

        version = triton.__version__
    except ImportError:
        version = None
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "triton": version,
        "siamfast": siamfast.__version__,
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def commit() -> str | None:
    """None where git is missing, or the tree's history."""
    if shutil.which("git") is None:
        return None
    described = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return described.stdout.strip() or None


def device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return cpu_name()


def measure(case: Case, made: Made, seconds: float, device: str = "cpu") -> Row:
    """A row: times of all contenders in microseconds, ratios to ours, and the floor as a share of the time."""
    times = interleaved(made.runs, seconds, turns=200)
    row: Row = {"op": case.op, "case": case.name, "pass": case.direction, "dtype": case.dtype, "shapes": case.shapes}
    row |= {"bytes": case.bytes, "flop": case.flop}
    row["contenders"] = {}
    for name, taken in times.items():
        low, high = statistics.quantiles(taken, n=10)[::8]
        p50 = statistics.median(taken)
        figures = {"p10_us": low * 1e6, "p50_us": p50 * 1e6, "p90_us": high * 1e6, "calls": len(taken)}
        if case.unit:
            figures[f"{case.unit}_per_second"] = case.per / p50
        if (peak := peak_bytes(made.runs[name], device)) is not None:
            figures["peak_mb"] = peak / 1e6
        row["contenders"][name] = {k: float(f"{v:.5g}") for k, v in figures.items()}
    ours = statistics.median(times[OURS])
    row["times"] = {n: round(statistics.median(t) / ours, 3) for n, t in times.items() if n != OURS}
    if case.bytes is not None and case.flop is not None:
        speed = speeds(device)
        floor = max(case.bytes / speed["bytes"], case.flop / speed["flop"])
        row |= {"floor_us": round(floor * 1e6, 3), "floor_fraction": round(floor / ours, 4)}
        row["speeds"] = {name: float(f"{value:.4g}") for name, value in speed.items()}
    if case.extra is not None:
        row |= case.extra(device)
    return row | about(device)


def append(row: Row, file: Path) -> None:
    """Append a line, whole or not at all, because a torn line would spoil the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(row) + "\n").encode()
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


def read(file: Path) -> Iterator[Row]:
    for line in file.read_text().splitlines():
        yield json.loads(line)
