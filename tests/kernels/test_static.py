"""Every shipped Triton configuration compiles for real chips without stack or spills and within their shared memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import pytest

pytest.importorskip("triton")

from siamfast.kernels import static

BUILDS = list(static.shipped())
CASES = [(number, chip) for number in range(len(BUILDS)) for chip in static.CHIPS]


def _usage(case: tuple[int, int]) -> static.Usage:
    warnings.simplefilter("ignore")  # Triton's on the default of FP fusion
    return static.compile_for(BUILDS[case[0]], case[1])


Usages = dict[tuple[int, int], "Future[static.Usage]"]


@pytest.fixture(scope="module")
def usages() -> Iterator[Usages]:
    """All compilations, on two cores: one after another they are half the time of the whole suite."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield {case: pool.submit(_usage, case) for case in CASES}


@pytest.mark.parametrize("chip", static.CHIPS)
@pytest.mark.parametrize("number", range(len(BUILDS)), ids=[build.name for build in BUILDS])
def test_configuration_fits_the_chip(usages: Usages, number: int, chip: int) -> None:
    build, used = BUILDS[number], usages[number, chip].result()
    assert used.stack == 0, used
    assert used.spills == 0, used
    assert used.shared <= static.SHARED_LIMIT[chip], used
    assert (used.tensor_core > 0) == build.tensor_cores, used
