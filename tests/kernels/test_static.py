"""All shipped Triton configurations compile for real chips without spills and within their shared memory."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

pytest.importorskip("triton")

from siamfast.kernels import static
from siamfast.kernels.cards import LIMITS
from siamfast.kernels.launches import launches_of
from siamfast.kernels.races import races
from siamfast.kernels.repeats import repeats
from siamfast.kernels.shipped import Call, shipped

CALLS = list(shipped())
# Every configuration for Hopper, every twentieth for each neighbour: all for all chips take half the time of the
# whole suite. test_launch.py compiles a sample for six chips, `make gpu-proof` all.
CHIPS = {90: CALLS, 80: CALLS[::20], 100: CALLS[10::20]}
TOGETHER = 12  # calls whose kernels are disassembled at once: the disassembler takes a third of a second to start
CASES = [(chip, calls[n : n + TOGETHER]) for chip, calls in CHIPS.items() for n in range(0, len(calls), TOGETHER)]


@pytest.mark.parametrize(("chip", "calls"), CASES, ids=[f"sm_{chip}, {calls[0].name} ..." for chip, calls in CASES])
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_configurations_fit_the_chip(chip: int, calls: list[Call]) -> None:
    launches = [launches_of(call, chip) for call in calls]
    usages = iter(static.usages_for([launch for of_call in launches for launch in of_call], chip))
    for call, of_call in zip(calls, launches, strict=True):
        compiled = [next(usages) for _ in of_call]
        assert any(used.tensor_core > 0 for used in compiled) == call.tensor_cores, (call.name, compiled)
        assert compiled[0].wide_loads > 0 or not call.wide, (call.name, compiled[0])
        for used in compiled:
            assert not used.spilled, (call.name, used)
            assert used.shared <= LIMITS[chip].shared_block, (call.name, used)
            assert used.occupancy(LIMITS[chip]) > 0, (call.name, used)
            assert not used.races, (call.name, used)
            assert not used.problems, (call.name, used)
            assert used.repeats <= 2, (call.name, used)


def test_the_repeats_of_a_product_are_counted() -> None:
    """Of 64 queries and their keys: the slopes' 128 channels are divided by columns between 8 warps, and so are the
    logits, of 16 keys, that is two of the warps' shares of 8: four warps have each."""
    call = next(c for c in CALLS if c.name == "warp dquery, large, radius 12, exact")
    (launch,) = launches_of(call, 80)
    whole = {"LENGTH": 128, "BLOCK_C": 128}
    eight = launch.options | {"num_warps": 8, "BLOCK_D": 128, "PRECISION": "tf32", **whole}
    usages = static.usages_for([launch, replace(launch, options=eight)], 80)
    assert [usage.repeats for usage in usages] == [1, 4]


def test_repeats_by_rows_and_by_columns() -> None:
    layout = "#mma = #ttg.nvidia_mma<{{versionMajor = 2, versionMinor = 0, warpsPerCTA = {}, instrShape = [16, 8]}}>\n"
    product = "  %s = tt.dot %a, %b, %c{}: tensor<64x{}xf32, #x> * y -> tensor<64x{}xf32, #mma> loc(#loc1)\n"
    precise = ", inputPrecision = tf32 "
    for warps, times in (("[4, 1]", 1), ("[8, 1]", 2), ("[4, 2]", 1), ("[1, 8]", 4), ("[2, 4]", 2)):
        small, large = product.format(" ", 32, 16), product.format(precise, 32, 64)
        assert repeats(layout.format(warps) + small) == times, warps
        assert repeats(layout.format(warps) + small + large) == repeats(layout.format(warps) + large), warps
    assert repeats("") == 1


@pytest.mark.parametrize(("case", "stages"), [("siamfc train, fp32", 2), ("64 templates of 1x1, bf16", 3)])
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_both_race_checks_report_a_race_that_triton_makes(case: str, stages: int) -> None:
    """The gradients of xcorr in configurations shipped earlier: the copy is stages - 1 iterations ahead, in as
    many buffers."""
    call = next(c for c in CALLS if c.name == f"xcorr dz and dx, {case}")
    (launch,) = launches_of(call, 90)
    earlier = {"BLOCK_Q": 32, "BLOCK_C": 64, "num_warps": 8, "num_stages": stages}
    (usage,) = static.usages_for([replace(launch, options=launch.options | earlier)], 90)
    assert len(usage.races) == 1
    assert f"{stages - 1} buffer(s), is filled while 1 product(s) are pending" in usage.races[0]
    raced = r"LDGSTS.* writes shared memory that the HGMMA at .* may still read"
    assert usage.problems
    assert all(re.search(raced, line) for line in usage.problems)


LOOP = """
  %a = ttg.local_alloc : () -> !ttg.memdesc<{buffers}x64x32xf32, #shared, #smem, mutable>
  scf.for %i = %c0 to %c9 step %c1 iter_args(%filled = %c{ahead}_i32, %read = %c0_i32) : i32 {{
    %v = ttg.memdesc_index %a[%read] : !ttg.memdesc<{buffers}x64x32xf32, #shared> -> !ttg.memdesc<64x32xf32, #shared>
    %d = ttng.warp_group_dot %v, %b, %c {{inputPrecision = 0 : i32, isAsync = true}} : a * b -> c
    %w = ttng.warp_group_dot_wait %d, %v {{pendings = {pendings} : i32}} : c, a
    %u = ttg.memdesc_index %a[%filled] : !ttg.memdesc<{buffers}x64x32xf32, #shared> -> !ttg.memdesc<64x32xf32, #shared>
    %t = {fill} : x -> <64x32xf32, #shared>
  }}
"""


@pytest.mark.parametrize(
    "fill",
    [
        "ttg.async_copy_global_to_local %p, %u mask %m",
        "ttg.local_store %p, %u",
        "ttng.async_tma_copy_global_to_local %p[%i, %i] %u, %barrier, %true",
    ],
)
@pytest.mark.parametrize("buffers", [1, 2, 3, 4])
@pytest.mark.parametrize("ahead", [1, 2, 3])
@pytest.mark.parametrize("pendings", [0, 1, 2, 3])
def test_a_copy_may_not_fill_what_a_pending_product_reads(buffers: int, ahead: int, pendings: int, fill: str) -> None:
    """The product of iteration k reads buffer k % buffers; behind it, buffer (k + ahead) % buffers is filled."""
    raced = any((ahead + ago) % buffers == 0 for ago in range(pendings))
    ttgir = LOOP.format(buffers=buffers, ahead=ahead, pendings=pendings, fill=fill)
    assert len(races(ttgir)) == raced
    assert races(ttgir.replace("%read = %c0_i32", "%read = %unknown")) or not pendings


LOOP_100 = """
  %a = ttg.local_alloc : () -> !ttg.memdesc<{buffers}x64x32xf32, #shared, #smem, mutable>
  %r:4 = scf.for %i = %c0 to %c9 step %c1 iter_args(%f = %c{ahead}_i32, %read = %c0_i32, %one = %x, %two = %x) : i32 {{
    %v = ttg.memdesc_index %a[%read] : !ttg.memdesc<{buffers}x64x32xf32, #shared> -> !ttg.memdesc<64x32xf32, #shared>
    {first}
    {second}
    %u = ttg.memdesc_index %a[%f] : !ttg.memdesc<{buffers}x64x32xf32, #shared> -> !ttg.memdesc<64x32xf32, #shared>
    %t = ttg.async_copy_global_to_local %p, %u mask %m : x -> <64x32xf32, #shared>
    scf.yield %f, %read, %bar, %one : i32, i32, x, x
  }}
"""
PRODUCT_100 = "ttng.tc_gen5_mma %v, %b, %d, %true, %true, %bar[%true] {is_async} : a, b, c, d"


@pytest.mark.parametrize("buffers", [1, 2, 3, 4])
@pytest.mark.parametrize("ahead", [1, 2, 3])
@pytest.mark.parametrize(("barrier", "before", "ago"), [
    ("%bar", False, 0), ("%bar", True, 1), ("%one", False, 1), ("%one", True, 1), ("%two", False, 2), ("%two", True, 2),
])  # fmt: skip
def test_a_barrier_says_which_products_of_sm_100_are_done(
    buffers: int, ahead: int, barrier: str, before: bool, ago: int
) -> None:
    """A loop that waits for the product of `ago` iterations earlier, before or after it begins its own; without the
    wait, or with one for another barrier, every product may be pending."""
    steps = [PRODUCT_100, f"ttng.wait_barrier {barrier}, %phase deps %v : a"]
    first, second = reversed(steps) if before else steps
    ttgir = LOOP_100.format(buffers=buffers, ahead=ahead, first=first, second=second)
    assert len(races(ttgir)) == any((ahead + earlier) % buffers == 0 for earlier in range(ago))
    assert races(ttgir.replace(f"wait_barrier {barrier},", "wait_barrier %other,"))


def test_a_wait_after_a_loop_is_for_what_it_was_given() -> None:
    """A loop in a loop: its first product is begun before it, and waited for by the result of the inner one."""
    outer = """
  %a = ttg.local_alloc : () -> !ttg.memdesc<2x64x32xf32, #shared, #smem, mutable>
  scf.for %k = %c0 to %c9 step %c1 : i32 {
    %v = ttg.memdesc_index %a[%c0_i32] : !ttg.memdesc<2x64x32xf32, #shared> -> !ttg.memdesc<64x32xf32, #shared>
    %t = ttg.async_copy_global_to_local %p, %v mask %m : x -> <64x32xf32, #shared>
    ttng.tc_gen5_mma %v, %b, %d, %true, %true, %bar[%true] {is_async} : a, b, c, d
    %r:2 = scf.for %i = %c0 to %c9 step %c1 iter_args(%j = %c0_i32, %last = %bar) -> (i32, x) : i32 {
      scf.yield %j, %last : i32, x
    }
    ttng.wait_barrier %r#1, %phase : a
  }
"""
    assert not races(outer)
    assert races(outer.replace("%r#1", "%r#0"))
    begun = (
        "ttng.tc_gen5_mma %v, %b, %d, %true, %true, %more[%true] {is_async} : a, b, c, d\n      scf.yield %j, %more "
    )
    inside = outer.replace("scf.yield %j, %last ", begun)
    assert not races(inside)
    assert races(inside.replace("%r#1", "%bar"))  # the inner loop's last product goes on


def test_occupancy_is_what_the_tightest_resource_allows() -> None:
    usage = static.Usage(registers=128, stack=0, spills=0, shared=0, tensor_core=0, wide_loads=0, warps=8)
    assert usage.occupancy(LIMITS[90]) == 2 * 8 / 64  # 65,536 registers hold two blocks of 8 * 32 * 128
    assert replace(usage, registers=32).occupancy(LIMITS[90]) == 1.0
    assert replace(usage, shared=120 << 10).occupancy(LIMITS[90]) == 1 * 8 / 64
    assert replace(usage, registers=16, warps=1).occupancy(LIMITS[80]) == 32 / 64  # 32 blocks at the most
    assert replace(usage, registers=16, warps=1).occupancy(LIMITS[89]) == 24 / 48
