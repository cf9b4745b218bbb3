"""Gradients of correspondence_warp without a window: products by cuBLAS, a kernel between them (logit_slopes.py)."""

from __future__ import annotations

import torch
from siamfast.kernels import chips, tf32
from siamfast.kernels.chips import MOST_REGISTERS
from siamfast.kernels.correspondence_warp.logit_slopes import warp_logit_slopes_kernel
from siamfast.kernels.correspondence_warp.task import Ends, Slopes, Task
from siamfast.kernels.integers import cdiv, next_power_of_2
from siamfast.kernels.products import follows_settings, multiply
from siamfast.kernels.tf32 import EXACT

# Logits of so many bytes at a time: with their slopes they stay in the L2 of an A100 (40 MB) and later.
MOST_BYTES = 24 << 20
MOST_VALUES = 32  # channels of values whose slopes fit in a program
SMALL_VALUES = 16  # up to so many, products with values are a few multiply-adds per logit
PROGRAMS, MOST_OF_A100 = 528, 432  # that fill a chip: four on each of 132 multiprocessors, of 108
BLOCKS = {"BLOCK_Q": 16, "BLOCK_J": 64, "num_warps": 4, "num_stages": 1}
# Of a thread, for up to SMALL_VALUES: four blocks on a multiprocessor, as PROGRAMS counts on. Left to itself, or with
# 96 for five blocks, ptxas puts 8 to 40 bytes on the stack here and there; so it does for more values with 168.
REGISTERS = 128
# Keys of a row of slopes are padded to a multiple: cuBLAS has its fast kernels for rows that begin at multiples of 16
# bytes, which 25 x 25 keys do not, and Triton writes them in wide stores.
WIDTH = 16
LARGEST = 2.0**14  # of a slope in float16, whose largest number is 2^16 and smallest 2^-24


def serves(task: Task) -> bool:
    return not task.windowed and task.values.shape[1] <= MOST_VALUES and follows_settings(task.precision)


def needs_units(task: Task) -> bool:
    """Whether slopes are stored in float16: in units that let it hold them, however small the loss's."""
    return task.query.dtype == torch.float16 and serves(task)


def backward(task: Task, *, grad: torch.Tensor, ends: Ends, index: torch.Tensor, needs: list[bool]) -> Slopes:
    """As launch_backward.backward."""
    (n, cells, _), (k, keys), units = task.query.shape, task.values.shape[1:], ends.units
    like = {"dtype": torch.float32, "device": task.query.device}
    precision = "tf32" if tf32.allowed() else EXACT
    registers = REGISTERS if k <= SMALL_VALUES else MOST_REGISTERS
    rows = min(cells, max(1, MOST_BYTES // (4 * n * keys) // 64) * 64)
    tiles = cdiv(keys, BLOCKS["BLOCK_J"]) * n
    programs = min(PROGRAMS, MOST_OF_A100) if chips.chip_of(task.query.device) == 80 else PROGRAMS
    part_rows = cdiv(cdiv(rows, max(1, programs // tiles)), BLOCKS["BLOCK_Q"]) * BLOCKS["BLOCK_Q"]
    parts, of_values = cdiv(rows, part_rows), needs[2] and k > 0
    d_values = torch.empty((parts, n, k if of_values else 0, keys), **like)
    d_bias = torch.empty((parts, n, keys), **like)
    nothing = torch.empty(0, **like)
    d_query: list[torch.Tensor] = []
    sums: list[torch.Tensor] = []  # of keys, values and bias, over the queries so far
    with torch.cuda.device_of(task.query):
        for chunk, query in enumerate(task.query.split(rows, 1)):
            logits = multiply(query, task.keys.transpose(1, 2))
            slopes = query.new_empty(n, query.shape[1], cdiv(keys, WIDTH) * WIDTH)[..., :keys]
            warp_logit_slopes_kernel[(tiles, parts)](
                logits, slopes, d_bias if units is None else units, task.values, task.bias_or_keys, grad,
                ends.numbers, index, d_values, d_bias, chunk * rows, n, query.shape[1], cells, keys, k,
                slopes.stride(1), part_rows,
                BIAS=task.bias is not None, UNITS=units is not None, OF_VALUES=of_values,
                KP=max(16, next_power_of_2(k)), SMALL=k <= SMALL_VALUES,
                SLOPES=precision, UPCAST=not task.query.is_cuda, maxnreg=registers, **BLOCKS,
            )  # fmt: skip
            if needs[0]:
                d_query.append(multiply(slopes, task.keys))
            d_keys = multiply(slopes.transpose(1, 2), query) if needs[1] else nothing
            more = d_keys, d_values.sum(0) if needs[2] else nothing, d_bias.sum(0) if needs[3] else nothing
            sums = [total.add_(part) for total, part in zip(sums, more, strict=True)] if sums else list(more)
    return Slopes(
        query=(d_query[0] if len(d_query) == 1 else torch.cat(d_query, 1)) if needs[0] else nothing,
        keys=sums[0],
        values=sums[1],
        bias=sums[2],
        units=units,
    )
