"""What the machine is, for reports and rows of benchmarks."""

from __future__ import annotations

import platform


def cpu_name() -> str:
    """The processor's model, or its architecture where the system does not say."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
