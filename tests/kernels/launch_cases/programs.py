"""Calls that make all programs of the correspondence warp's kernels that know no sizes (windows.jit_for_any_size), or
only one (logit_slopes.py).

A program of the first depends on the window's kind, on whether there is a bias, on whether the keys are divided, and on
classes: of rows (up to which length they are one block, how much is read at once, how many channels of slopes there
are), of values (how many are added at once) and of top k (places of a list). Of the second, it depends on the number of
keys and the values' address (1, multiples of 16, others), on the slopes' dtype, on whether products with them are
TF32's, and on classes of values.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from siamfast.kernels.launches import replaced

import siamfast
from tests.kernels.launch_cases.case import Case, backward, zeros
from tests.kernels.launch_cases.warps import warp

# Channels of each class of rows, by dtype and whether products of float32 may be TF32's.
ROWS = {
    "half": (torch.float16, (16, 32, 64, 128, 256, 320, 384, 512)),
    "tf32": (torch.float32, (16, 32, 64, 128, 160, 192, 256)),
    "exact": (torch.float32, (16, 32, 64, 128, 160, 256)),
}
WINDOWS = ("none", "square", "circle", "ranks")  # kinds of windows.Windows
VALUES = (1, 2, 4, 16, 17, 40)
TOP_KS = (2, 3, 5, 9, 17)
# Frames of 20 x 20 cells; the keys of six are divided, with one sample.
FRAMES = (1, 6)


class Program(NamedTuple):
    product: str
    channels: int
    window: str
    bias: bool
    values: int
    frames: int = 1
    topk: int | None = None

    def call(self) -> None:
        dtype, grid = ROWS[self.product][0], (20, 20)
        keys = (30, 30) if self.window == "ranks" else grid
        query = zeros((1, self.channels, *grid), dtype)
        frames = zeros((1, self.frames, self.channels, *keys), dtype)
        backward = self.topk is None and self.frames == 1
        options: dict[str, Any] = {"normalize": self.product == "half", "topk": self.topk}
        if self.window != "none":
            options |= {"radius": 6.0, "window": "square" if self.window == "square" else "circle"}
        if self.window == "ranks":  # else a query may see fewer keys than a list has places
            options["global_frames"] = (0,)
        # Without a window, gradients that are exact by PyTorch's settings of a convolution, but not by those of a
        # matrix product, are these kernels'.
        products = replaced(torch.backends.cuda.matmul, "fp32_precision", "tf32" if self.window == "none" else "ieee")
        with torch.set_grad_enabled(backward), products:
            warp(query, frames, self.values, dtype, bias=self.bias, backward=backward, **options)


# Keys of a frame by their number, 1, a multiple of 16 and another; rows by the dtype of their slopes, and whether the
# products with slopes of values are TF32's.
KEYS = ((1, 1), (20, 20), (17, 19))
SLOPES = ((torch.float16, True), (torch.float16, False), (torch.float32, True), (torch.float32, False))


class Dense(NamedTuple):
    """Gradients without a window, with the slopes of logits stored."""

    dtype: torch.dtype
    tf32: bool
    keys: tuple[int, int]
    bias: bool
    of_values: bool  # whether they get gradients
    shifted: bool  # whether the values' address is no multiple of 16
    values: int

    def call(self) -> None:
        query, frame = zeros((1, 32, 20, 20), self.dtype), zeros((1, 1, 32, *self.keys), self.dtype)
        values = zeros((1, 1, self.values, *self.keys), torch.float32, "shifted" if self.shifted else "plain")
        key_bias = zeros((1, 1, *self.keys), torch.float32) if self.bias else None
        with replaced(torch.backends.cuda.matmul, "fp32_precision", "tf32" if self.tf32 else "ieee"):
            out = siamfast.correspondence_warp(
                query, frame, values.requires_grad_(self.of_values), key_bias=key_bias, normalize=False
            )
            backward(out, query, frame)


def every_program() -> Iterator[Case]:
    for slopes, keys, *options in itertools.product(SLOPES, KEYS, *[(False, True)] * 3, (1, 17)):
        dense = Dense(*slopes, keys, *options)
        yield Case("warp dense", str(dense), dense.call, dense.tf32)
    for product, (_, rows) in ROWS.items():
        for channels, window, bias in itertools.product(rows, WINDOWS, (False, True)):
            common = product, channels, window, bias
            plain = [Program(*common, k, t) for k in VALUES for t in FRAMES if t == 1 or k <= 17]
            for program in plain + [Program(*common, 1, topk=topk) for topk in TOP_KS]:
                yield Case(f"warp {window}", str(program), program.call, product != "exact")


def random_program(rng: np.random.Generator) -> Case:
    every = list(every_program())
    return every[int(rng.integers(len(every)))]
