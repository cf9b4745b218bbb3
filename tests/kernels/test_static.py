"""Every shipped Triton configuration compiles for real chips without spills and within their shared memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest

pytest.importorskip("triton")

from siamfast.kernels import static
from siamfast.kernels.races import races
from siamfast.kernels.shipped import shipped

BUILDS = {chip: list(shipped(chip)) for chip in static.CHIPS}
CASES = [(number, chip) for number in range(len(BUILDS[90])) for chip in static.CHIPS]


def _usage(case: tuple[int, int]) -> static.Usage:
    warnings.simplefilter("ignore")  # Triton's on the default of FP fusion
    return static.compile_for(BUILDS[case[1]][case[0]], case[1])


Usages = dict[tuple[int, int], "Future[static.Usage]"]


@pytest.fixture(scope="module")
def usages() -> Iterator[Usages]:
    """All compilations, on two cores: one after another they are half the time of the whole suite."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield {case: pool.submit(_usage, case) for case in CASES}


@pytest.mark.parametrize("chip", static.CHIPS)
@pytest.mark.parametrize("number", range(len(BUILDS[90])), ids=[build.name for build in BUILDS[90]])
def test_configuration_fits_the_chip(usages: Usages, number: int, chip: int) -> None:
    build, used = BUILDS[chip][number], usages[number, chip].result()
    assert not used.spilled, used
    assert used.shared <= static.CHIPS[chip].shared_block, used
    assert (used.tensor_core > 0) == build.tensor_cores, used
    assert used.wide_loads > 0 or not build.wide, used
    assert used.occupancy(chip) > 0, used
    assert not used.races, used


def test_a_race_is_found_where_triton_makes_one() -> None:
    """Two stages in the TF32 gradients: what was shipped before."""
    build = next(b for b in BUILDS[90] if b.name == "xcorr dz and dx, siamfc train, fp32")
    usage = static.compile_for(replace(build, options=build.options | {"num_stages": 2}), 90)
    assert len(usage.races) == 1
    assert "1 buffer(s), is filled while 1 product(s) may still read it" in usage.races[0]


LOOP = """
  %a = ttg.local_alloc : () -> !ttg.memdesc<{buffers}x64x32xf32, #shared, #smem, mutable>
  scf.for %i = %c0 to %c9 step %c1 : i32 {{
    %v = ttg.memdesc_index %a[%i] : !ttg.memdesc<{buffers}x64x32xf32, #shared> -> !ttg.memdesc<64x32xf32, #shared>
    %d = ttng.warp_group_dot %v, %b, %c {{inputPrecision = 0 : i32, isAsync = true}} : a * b -> c
    %w = ttng.warp_group_dot_wait %d, %v {{pendings = {pendings} : i32}} : c, a
    %t = ttg.async_copy_global_to_local %p, %v mask %m : x -> <64x32xf32, #shared>
  }}
"""


@pytest.mark.parametrize(("buffers", "pendings", "raced"), [(1, 0, 0), (1, 1, 1), (2, 1, 0), (2, 2, 1), (3, 2, 0)])
def test_as_many_buffers_as_pending_products_are_too_few(buffers: int, pendings: int, raced: int) -> None:
    assert len(races(LOOP.format(buffers=buffers, pendings=pendings))) == raced


def test_a_few_bytes_on_the_stack_are_no_spill_while_registers_are_left() -> None:
    usage = static.Usage(registers=128, stack=16, spills=0, shared=0, tensor_core=0, wide_loads=0, warps=8)
    assert usage.bargain
    assert not usage.spilled
    for worse in (replace(usage, registers=255), replace(usage, stack=40), replace(usage, spills=8)):
        assert worse.spilled, worse
    assert not replace(usage, stack=0).bargain


def test_occupancy_is_what_the_tightest_resource_allows() -> None:
    usage = static.Usage(registers=128, stack=0, spills=0, shared=0, tensor_core=0, wide_loads=0, warps=8)
    assert usage.occupancy(90) == 2 * 8 / 64  # 65,536 registers hold two blocks of 8 * 32 * 128
    assert replace(usage, registers=32).occupancy(90) == 1.0
    assert replace(usage, shared=120 << 10).occupancy(90) == 1 * 8 / 64
    assert replace(usage, registers=16, warps=1).occupancy(80) == 32 / 64  # 32 blocks at the most
