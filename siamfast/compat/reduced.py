"""Convolutions in 8 bits or in bfloat16, for CPUs with instructions for them; inputs and results stay float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch

from siamfast.instructions import fast_bfloat16, has_amx, int8_missing, onednn_operator

PRECISIONS = ("float32", "bfloat16", "int8")
# For each number of the input; with fewer, the conversion takes longer than the products save.
_FEWEST_PRODUCTS = 256
_exact: ContextVar[bool] = ContextVar("exact", default=False)
Convolution = Callable[[torch.Tensor], torch.Tensor]


def missing(precision: str) -> str | None:
    """None where convolutions of this precision are correct and faster here, else the reason why not."""
    if precision == "bfloat16" and not fast_bfloat16(torch.device("cpu")):
        return "this CPU has no instructions for bfloat16"
    return int8_missing() if precision == "int8" else None


def serves(weight: torch.Tensor, stride: list[int], groups: int) -> bool:
    """Whether a convolution has products enough. weight: (O, C / groups, kh, kw)."""
    return weight.shape[0] // groups * weight[0, 0].numel() >= _FEWEST_PRODUCTS * stride[0] * stride[1]


def is_right(
    weight: torch.Tensor, padding: list[int], stride: list[int], dilation: list[int], groups: int, shape: list[int]
) -> bool:
    """Whether oneDNN computes this convolution of inputs of this shape rightly in bfloat16 and in 8 bits.

    On CPUs with AMX that of PyTorch 2.13 does not always: where the stride is longer than the kernel (oneDNN's pull
    request 5494), the result is one cell wide, the padding is as large as the input, or in groups of few channels,
    results are off by more than their size, and memory of others is overwritten. Here are those that were right in
    each of 10,000 draws of geometry and channels.
    """
    if not has_amx():
        return True
    if groups > 1 and weight.shape[1] < 32:
        return False
    axes = list(zip(weight.shape[2:], padding, stride, dilation, shape[2:], strict=True))
    point = weight[0, 0].numel() == 1
    for k, p, s, d, side in axes:
        extent = d * (k - 1) + 1
        if s > (4 if point else min(2, k)) or 2 * p >= extent or extent > side or (side + 2 * p - extent) // s < 1:
            return False
    return True


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Stay in float32 here: a template enters every response."""
    token = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(token)


def stays_exact() -> bool:
    """Whether this call is inside `exactly`."""
    return _exact.get()


def bfloat16(
    weight: torch.Tensor,
    bias: torch.Tensor,
    padding: list[int],
    stride: list[int],
    dilation: list[int],
    groups: int,
    shape: list[int],
) -> Convolution:
    """The convolution with inputs, weights and results rounded to bfloat16; sums in float32."""
    arguments: Any = (weight.bfloat16(), bias.bfloat16(), stride, padding, dilation, groups)
    return lambda x: torch.conv2d(x.bfloat16(), *arguments).float()


class Int8:
    """The convolution with 8-bit weights, a scale for each output channel, and 8-bit inputs, a scale for each image of
    each call: no clip has to calibrate it, and no image changes another's results. Sums in 32 bits, results in float32.

    Source of the scheme: Jacob et al. 2018, "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", section 2.1.

    Args:
        weight: (O, C / groups, kh, kw) float32. bias: (O,). padding, stride, dilation: two numbers each. shape: of the
            inputs; packed for another one, oneDNN may reorder the weights in each call, which takes up to thirty times
            as long as the products.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor,
        padding: list[int],
        stride: list[int],
        dilation: list[int],
        groups: int,
        shape: list[int],
    ) -> None:
        self._convolve = onednn_operator("qconv_pointwise", "qconv2d_pointwise")
        self._geometry, self._shape = (stride, padding, dilation, groups), [1, *shape[1:]]
        self._steps = weight.flatten(1).abs().amax(1).clamp_min(1e-36) / 127
        self._rounded = (weight / self._steps.view(-1, 1, 1, 1)).round_().clamp_(-127, 127).to(torch.int8)
        self._bias, self._zeros = bias, torch.zeros(len(bias), dtype=torch.int64)
        self._packed: dict[int, torch.Tensor] = {}  # by the byte that stands for 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._image(x) if len(x) == 1 else torch.cat([self._image(part) for part in x.split(1)])

    def _image(self, x: torch.Tensor) -> torch.Tensor:
        low, high = float(x.amin()), float(x.amax())  # aminmax copies channels_last inputs
        # Behind a ReLU all 256 levels are for positive numbers.
        zero, step = (128, max(high, -low) / 127) if low < 0 else (0, high / 255)
        step = max(step, 1e-30)  # its reciprocal has to be a float32
        levels = torch.add(torch.tensor(zero + 0.5), x, alpha=1 / step).to(torch.uint8)
        packed = self._packed.get(zero)
        if packed is None:
            arguments = (self._rounded, self._steps, step, zero, *self._geometry, self._shape)
            packed = self._packed[zero] = torch.ops.onednn.qconv_prepack(*arguments)
        result: torch.Tensor = self._convolve(
            levels, step, zero, packed, self._steps, self._zeros, self._bias, *self._geometry,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return result


MAKERS: dict[str, Callable[..., Convolution]] = {"bfloat16": bfloat16, "int8": Int8}
