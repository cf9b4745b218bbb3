"""launch_cases/programs.py makes all programs of the warp's kernels that know few or no sizes; no call makes more."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from siamfast.kernels.cards import LIMITS
from siamfast.kernels.launches import Call, launches_of, replaced

import siamfast
from siamfast.ops import dispatch
from tests.kernels.launch_cases.case import FLOATS, Case, zeros
from tests.kernels.launch_cases.programs import ROWS, every_program
from tests.kernels.launch_cases.warps import warp

KERNELS = ("warp_forward_kernel", "warp_lists_kernel", "warp_query_slopes_kernel", "warp_key_slopes_kernel")
NUMBERS = ("SPLIT", "KT")  # arguments by name that are no constants
LONGEST = {dtype: max(rows) for dtype, rows in ROWS.values()}  # longer powers of 2 differ in a shift


def programs_of(cases: Iterable[Case], chip: int) -> set[Any]:
    """Kernel, dtype of the rows or slopes, what is known of numbers and addresses, and constants and options."""
    made: set[Any] = set()
    for case in cases:
        for launch in launches_of(Call("", case.call, 0, 0, tf32=case.tf32), chip):
            if launch.name == "warp_logit_slopes_kernel":
                slopes, values, keys = launch.arguments[1], launch.arguments[3], launch.arguments[14]
                numbers = keys == 1, keys % 16 == 0, values.data_ptr() % 16 == 0
                made.add((launch.name, slopes.dtype, *numbers, tuple(sorted(launch.options.items()))))
            elif launch.name in KERNELS:
                dtype, options = launch.arguments[0].dtype, launch.options
                known = {name: value for name, value in options.items() if name not in NUMBERS}
                known["LENGTH"] = min(known["LENGTH"], LONGEST[dtype])
                made.add((launch.name, dtype, tuple(sorted(known.items()))))
    return made


@functools.cache
def all_of(chip: int) -> set[Any]:
    return programs_of(every_program(), chip)


@pytest.fixture(scope="module", autouse=True)
def _triton_serves() -> Any:
    before, dispatch.triton_reason = dispatch.triton_reason, lambda *ignored: None
    with siamfast.backend("triton"):
        yield
    dispatch.triton_reason = before


@st.composite
def warps(draw: st.DrawFn) -> Case:
    dtype, tf32 = draw(st.sampled_from(FLOATS)), draw(st.booleans())
    n, t, k = (draw(st.integers(1, most)) for most in (2, 9, 70))
    c = draw(st.one_of(st.integers(1, 300), st.integers(5, 32).map(lambda blocks: 64 * blocks)))
    h, w, hr, wr = (draw(st.integers(1, 30)) for _ in range(4))
    if draw(st.booleans()):
        hr, wr = h, w
    options: dict[str, Any] = {"normalize": draw(st.booleans()), "bias": draw(st.booleans())}
    options["global_frames"] = tuple(draw(st.sets(st.integers(0, t - 1))))
    matmul = draw(st.sampled_from(("tf32", "ieee")))
    if draw(st.booleans()):
        options["radius"] = max(hr / h, wr / w, 1) * draw(st.sampled_from((1.0, 2.5, 12.0)))
        options["window"] = draw(st.sampled_from(("square", "circle")))
    if draw(st.booleans()):
        # A row of queries sees this many keys at least: those of its own place in each frame.
        options["topk"] = draw(st.integers(1, min(32, t if "radius" in options else t * hr * wr)))

    def call() -> None:
        with replaced(torch.backends.cuda.matmul, "fp32_precision", matmul):
            warp(zeros((n, c, h, w), dtype), zeros((n, t, c, hr, wr), dtype), k, dtype, **options)

    return Case("warp", f"{(n, t, c, k)} {(h, w)} {(hr, wr)} {dtype} {tf32=} {matmul=} {options}", call, tf32)


# Two chips a run, drawn anew: all programs of one are listed in four seconds.
CHIPS = np.random.default_rng().choice(sorted(LIMITS), 2, replace=False).tolist()


@settings(max_examples=40)
@given(case=warps())
def test_no_call_makes_another_program(case: Case) -> None:
    for chip in CHIPS:
        assert programs_of([case], chip) <= all_of(chip), (case.name, chip)
