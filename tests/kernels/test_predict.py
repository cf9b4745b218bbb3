"""The counted work equals a count by hand, and predictions follow from it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from siamfast.kernels.cards import CARDS, NOT_SERVED
from siamfast.kernels.count import SAMPLE, SECTOR, Work, counted, sample
from siamfast.kernels.launches import Call, launches_of
from siamfast.kernels.predict import predict, waves
from siamfast.kernels.shipped import shipped
from siamfast.kernels.static import Usage

import siamfast
from siamfast.ops import dispatch
from tests.interpreter import needs_interpreter
from tests.kernels.launch_cases.case import backward

H100 = CARDS["H100"]
PAGE = Path(__file__).parents[2] / "docs/performance/gpu-predictions.md"
CALLS = {call.name: call for call in shipped()}
USAGE = Usage(registers=32, stack=0, spills=0, shared=0, tensor_core=1, wide_loads=1, warps=4)


@functools.cache
def counts(name: str) -> dict[str, list[Work]]:
    """The work of the calls that have this in their names."""
    return {call: works for call, _, works in counted([90], name)}


def count(name: str) -> list[Work]:
    return counts(name)[name]


@needs_interpreter
def test_depthwise_forward_traffic_equals_a_count_by_hand() -> None:
    """4 x 4 taps on 16 x 16 pixels with a border of 1, four cells in a column per thread: with a column of taps the
    four cells cover 7 rows of pixels, 1 fewer for the first thread and 2 fewer for the last; of the 15 places of an
    axis taps 0 and 3 cover 14 pixels."""
    (work,) = count("depthwise forward, nanotrack, fp32")
    planes, pixels = 32 * 96, (6 + 7 + 7 + 5) * (14 + 15 + 15 + 14)
    assert work.programs == planes
    assert work.loaded == 4 * (16 + pixels)
    assert work.touched == 4 * (16 + 16 * 16)  # each pixel of the plane is in a sector that is touched once
    assert work.stored == 4 * 15 * 15
    assert 4 * 15 * 15 < work.written <= 15 * 3 * SECTOR  # 60 bytes of a row are in 3 sectors at the most
    assert work.memory == 4 * planes * (16 + 16 * 16 + 15 * 15)
    assert work.products == {}


@needs_interpreter
def test_the_loss_reads_scores_once_and_writes_slopes_once() -> None:
    (work,) = count("balanced_logistic_loss, shared, fp32")
    each = 8 * 17 * 17  # a program has 8 samples, and writes the loss of each
    assert (work.programs, work.loaded, work.stored) == (8, 4 * each, 4 * each + 4 * 8)


@needs_interpreter
@pytest.mark.parametrize(
    ("kind", "rate", "times"), [("fp32", "fp32", 1), ("exact fp32", "fp32", 3), ("bf16", "bf16", 1)]
)
def test_products_are_counted_with_padding(kind: str, rate: str, times: int) -> None:
    """64 kernels by 256 pixels and 96 channels; blocks of 64 channels pad them to 128, exact ones are of 32."""
    (work,) = counts("xcorr dx, 64 templates of 1x1")[f"xcorr dx, 64 templates of 1x1, {kind}"]
    padded = 96 if kind == "exact fp32" else 128
    assert work.programs * work.products[rate] == 32 * 2 * 64 * 256 * padded * times


def test_a_sample_is_even_and_covers_a_small_grid() -> None:
    assert set(sample((2, 5, 3))) == {(x, y, z) for x in range(2) for y in range(5) for z in range(3)}
    places = sample((7, 100, 3))
    assert len(places) == len(set(places)) == SAMPLE
    for begin in range(0, 100, 10):  # a tenth of the rows has a tenth of the sample, within one program of each part
        assert abs(sum(begin <= y < begin + 10 for _, y, _ in places) - SAMPLE / 10) <= 3


def test_waves_count_how_often_the_card_is_filled() -> None:
    filled = 2 * H100.multiprocessors
    assert [waves(n, 2, H100) for n in (1, filled, filled + 1, 3 * filled)] == [1, 1, 2, 3]


def test_a_term_is_the_bound_when_it_is_the_only_work() -> None:
    nothing = Work("kernel", (1,), H100.multiprocessors)
    for bound, seconds, work in (
        ("memory", 1.0, replace(nothing, memory=H100.bandwidth)),
        ("tensor", 1.0, replace(nothing, programs=10 * H100.multiprocessors,
                                products={"bf16": H100.rates["bf16"] / 10 / H100.multiprocessors})),
        ("latency", 1e3 * H100.middle / H100.clock, replace(nothing, far=1e3)),
        ("latency", 1e3 * H100.middle / 2 / H100.clock, replace(nothing, far_pipelined=1e3)),
    ):  # fmt: skip
        prediction = predict(work, replace(USAGE, async_loads=1), 3, H100)
        assert prediction.bound == bound
        assert prediction.seconds == pytest.approx(seconds)


def test_one_program_beyond_the_cards_capacity_takes_another_wave() -> None:
    capacity = USAGE.blocks(H100.limits) * H100.multiprocessors
    full, overfull = (predict(Work("kernel", (1,), n, far=100.0), USAGE, 1, H100) for n in (capacity, capacity + 1))
    assert (full.waves, overfull.waves) == (1, 2)
    assert overfull.seconds == pytest.approx(2 * full.seconds)


def test_products_of_an_older_kind_run_at_a_lower_rate() -> None:
    work = Work("kernel", (1,), 10 * H100.multiprocessors, products={"bf16": 1e9})
    newest, older = (predict(work, replace(USAGE, newest_products=kind), 1, H100) for kind in (True, False))
    assert older.terms["tensor"] == pytest.approx(newest.terms["tensor"] / H100.older_products)


def _xcorr() -> None:
    siamfast.xcorr(torch.zeros(8, 256, 6, 6), torch.zeros(8, 256, 20, 20))


def _xcorr_gradients() -> None:
    z, x = torch.zeros(8, 256, 6, 6, requires_grad=True), torch.zeros(8, 256, 20, 20, requires_grad=True)
    backward(siamfast.xcorr(z, x), z, x)


def _depthwise() -> None:
    siamfast.xcorr_depthwise(torch.zeros(28, 256, 5, 5), torch.zeros(28, 256, 29, 29))


def _loss() -> None:
    siamfast.balanced_logistic_loss(torch.zeros(64, 1, 17, 17))


def _warp(**options: Any) -> None:
    features, values = torch.zeros(1, 512, 60, 108), torch.zeros(1, 5, 60, 108)
    siamfast.correspondence_warp(features, features, values, **options)


@pytest.mark.parametrize(
    ("row", "public"),
    [
        ("xcorr diagonal sums, siamfc train, fp32", _xcorr),
        ("xcorr dz and dx, siamfc train, fp32", _xcorr_gradients),
        ("depthwise forward, pysot resnet, fp32", _depthwise),
        ("balanced_logistic_loss, shared, fp32", _loss),
        ("warp forward, large, fp16", _warp),
        ("warp forward, large, radius 12, fp16", lambda: _warp(radius=12)),
        ("warp top, large, circle 12, top 10, fp16", lambda: _warp(radius=12, window="circle", topk=10)),
    ],
)
@pytest.mark.parametrize("chip", [80, 90])
def test_the_table_launches_what_the_public_op_does(
    row: str, public: Callable[[], None], chip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "triton_reason", lambda *ignored: None)

    def call() -> None:
        with siamfast.backend("triton"):
            public()

    ours = [(one.name, one.grid, one.options) for one in launches_of(CALLS[row], chip)]
    theirs = [(one.name, one.grid, one.options) for one in launches_of(Call("", call, 0, 0), chip)]
    assert theirs[-len(ours) :] == ours


def test_the_page_lists_every_call_with_predictions_above_the_floor() -> None:
    """The page is stale when a call is added."""
    table = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    (head, *rows) = [[cell.strip() for cell in cells] for cells in table]
    assert [cells[0] for cells in rows] == list(CALLS), "run `python -m siamfast.kernels.table`"
    cards = [number for number, cell in enumerate(head) if cell.endswith("floor, predicted us")]
    assert [head[number].split(":")[0] for number in cards] == list(CARDS)
    for cells in rows:
        for number in cards:
            floor, predicted = map(float, cells[number].split(", "))
            assert 0 < floor <= predicted, (cells[0], head[number])
    assert NOT_SERVED in PAGE.read_text()
