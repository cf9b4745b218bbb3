"""The GPU that a launcher chooses its blocks for: its compute capability, and the shared memory of a block."""

from __future__ import annotations

import functools

import torch

MOST_SHARED = 227 << 10  # of any chip so far; the interpreter's limit


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


@functools.cache
def shared_limit(device: torch.device) -> int:
    """Bytes of shared memory that a block may ask for: 99 KiB on consumer cards, 163 or 227 on data-center ones."""
    if device.type != "cuda":
        return MOST_SHARED
    limit: int = torch.cuda.get_device_properties(device).shared_memory_per_block_optin
    return limit


def chip_and_shared(device: torch.device) -> tuple[int, int]:
    return chip_of(device), shared_limit(device)
