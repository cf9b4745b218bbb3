"""The machine's description, for reports and rows of benchmarks."""

from __future__ import annotations

import platform


def cpu_name() -> str:
    """The processor's model, or its architecture if the system does not report the model."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
