"""The compute capability of the GPU that a launcher chooses its blocks for."""

from __future__ import annotations

import functools

import torch

# Of a thread. A launch that names them (`maxnreg`) has all of them used before the stack; without it ptxas may aim at
# one more block on a multiprocessor, and keep a few numbers on the stack for that.
MOST_REGISTERS = 255


@functools.cache
def chip_of(device: torch.device) -> int:
    """90 for sm_90; 0 for the interpreter."""
    if device.type != "cuda":
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def multiplies_from_shared(chip: int) -> bool:
    """Whether tensor cores read their factors from shared memory: on sm_90 and sm_100, not on sm_120 (consumer
    Blackwell), whose products are those of sm_80 and read them from registers."""
    return 90 <= chip < 120
