"""Minimal filtering equals the direct convolution.

Tolerance: 5e-5 of the largest result. Its transforms multiply by up to 21/4 (3x3) and 85/16 (5x5) a side and add up to
seven numbers, which costs some ten times float32's rounding of the products' sum; 1e-5 is what is seen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from siamfast.compat.winograd import Winograd


@given(
    seed=st.integers(0, 2**31),
    taps=st.sampled_from([3, 5]),
    groups=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    dilation=st.integers(1, 3),
    spare=st.tuples(st.integers(0, 19), st.integers(0, 19)),
    count=st.integers(1, 2),
    channels_last=st.booleans(),
)
def test_equals_the_direct_convolution(
    seed: int,
    taps: int,
    groups: int,
    channels: tuple[int, int],
    padding: tuple[int, int],
    dilation: int,
    spare: tuple[int, int],
    count: int,
    channels_last: bool,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    sides = [max(1, dilation * (taps - 1) + 1 - 2 * p + s) for p, s in zip(padding, spare, strict=True)]
    x = torch.randn(count, groups * channels[0], *sides, generator=generator)
    weight = torch.randn(groups * channels[1], channels[0], taps, taps, generator=generator)
    bias = torch.randn(len(weight), generator=generator)
    truth = F.conv2d(x.double(), weight.double(), bias.double(), 1, padding, dilation, groups)
    given_x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    result = Winograd(weight, bias, padding, dilation, groups)(given_x)
    assert result.shape == truth.shape
    assert (result - truth).abs().max() <= 5e-5 * max(1.0, float(truth.abs().max()))
