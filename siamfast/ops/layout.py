"""The memory format of what an op makes of maps of pixels."""

from __future__ import annotations

import torch


def layout_of(x: torch.Tensor) -> torch.memory_format:
    """channels_last of (N, C, H, W) stays, anything else becomes contiguous."""
    last = torch.channels_last
    # One map, or maps of one cell, are contiguous too. The stride is asked first: whether a tensor is contiguous is an
    # error where its number of samples is not known (torch.export of x[mask]) and its strides do not say so.
    told_apart = x.shape[1] > 1 and (x.shape[2] > 1 or x.shape[3] > 1) and x.stride(1) == 1
    return last if told_apart and x.is_contiguous(memory_format=last) else torch.contiguous_format
