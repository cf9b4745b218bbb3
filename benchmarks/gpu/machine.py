"""The sections on the machine itself: software, GPU, and the speeds that all other figures are compared with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.gpu.clock import microseconds
from benchmarks.gpu.schedule import Row
from benchmarks.gpu.tasks import Setting, Task

PACKAGES = (
    "torch",
    "triton",
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "safetensors",
    "pybind11",
    "setuptools",
    "onnxruntime",
    "nvidia-cudnn-cu13",
    "nvidia-cudnn-cu12",
    "nvidia-cublas",
)
TOOLS = ("git", "g++", "ninja", "nvcc", "ncu", "compute-sanitizer")


def versions(setting: Setting) -> Iterator[Task]:
    yield Task("packages", packages)
    yield Task("GPU", card)
    yield Task("nvidia-smi", nvidia_smi)


def packages() -> Row:
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    tools = {name: shutil.which(name) for name in TOOLS}
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "packages": versions,
        "cuda": torch.version.cuda,
        "tools": tools,
    }


def card() -> Row:
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    names = (
        "name",
        "major",
        "minor",
        "total_memory",
        "multi_processor_count",
        "L2_cache_size",
        "shared_memory_per_block_optin",
        "regs_per_multiprocessor",
    )
    return {name: getattr(properties, name, None) for name in names} | {"cudnn": torch.backends.cudnn.version()}


def nvidia_smi() -> Row:
    done = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=8, check=False)
    return {"returned": done.returncode, "nvidia_smi": done.stdout or done.stderr, "ok": done.returncode == 0}


def speeds(setting: Setting) -> Iterator[Task]:
    """Bytes per second of a copy, FLOP per second of products of random matrices."""
    side = 128 if setting.small else 8192
    yield Task("copy", lambda: copy(1 << (16 if setting.small else 29), setting.device))
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bfloat16", torch.bfloat16, True),
    ):
        yield Task(name, lambda dtype=dtype, tf32=tf32: product(side, dtype, tf32, setting.device))


def copy(count: int, device: str) -> Row:
    """A copy of `count` float32 numbers, each read once and written once."""
    source = torch.randn(count, device=device)
    target = torch.empty_like(source)
    taken = microseconds(lambda: target.copy_(source), device)
    return {"bytes": 8 * count, "us": taken, "bytes_per_second": 8e6 * count / taken}


def product(side: int, dtype: torch.dtype, tf32: bool, device: str) -> Row:
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    out = torch.empty_like(a)
    with tf32_products(tf32):
        taken = microseconds(lambda: torch.mm(a, b, out=out), device)
    return {"side": side, "us": taken, "flop_per_second": 2e6 * side**3 / taken}


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """PyTorch's own settings for matrix products and convolutions, which our kernels follow; by their older names,
    which the code of torch.compile reads: it fails after one of the newer names was set."""
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = allowed
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value
