"""The tuning section changes what launchers read, one number at a time, and tells what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from siamfast.kernels.correspondence_warp import launch as warp
from siamfast.kernels.correspondence_warp import launch_backward as warp_backward
from siamfast.kernels.xcorr import launch_depthwise as depthwise

from benchmarks.gpu import tuning
from benchmarks.gpu.tasks import Setting
from benchmarks.harness import OURS, Case, Made

EVERY = [choice for choices in tuning.CHOICES.values() for choice in choices]
GIVEN: dict[str, tuple[Any, ...]] = {
    "gradients_config": (4, 2, 90),
    "search_config": (4, "tf32", 256, 90),
    "template_config": (4, "tf32", 256, 90),
    "forward_config": ("none", "ieee", False, 5, 90),
    "top_config": ("square", "ieee", False, 10, 90),
    "backward_config": ("ieee", 90, "square", 256, False, 5, True),
    "values_config": (90, "square", 5),
}


@pytest.mark.parametrize("choice", EVERY, ids=[choice.label for choice in EVERY])
def test_a_choice_is_read_inside_only(choice: tuning.Choice) -> None:
    before = getattr(choice.module, choice.name)
    for other in choice.others:
        with tuning.changed(choice, other) as used:
            now = getattr(choice.module, choice.name)
            if choice.changes:
                chosen, shipped = now(*GIVEN[choice.name]), before(*GIVEN[choice.name])
                assert set(chosen) == set(shipped)  # no number that the launcher does not know
                assert chosen == shipped | other
                assert bool(used) == (chosen != shipped)
            else:
                assert now == other
                assert bool(used) == (other != before)
        assert getattr(choice.module, choice.name) is before


def test_blocks_that_were_chosen_before_are_chosen_anew() -> None:
    choice = tuning.Choice(depthwise, "FORWARD_ROWS", ((4,),))
    shipped = depthwise.forward_blocks(5, 25, 25)
    assert shipped["ROWS"] != 4
    with tuning.changed(choice, (4,)):
        assert depthwise.forward_blocks(5, 25, 25)["ROWS"] == 4
    assert depthwise.forward_blocks(5, 25, 25) == shipped
    with contextlib.suppress(RuntimeError), tuning.changed(choice, (4,)):
        depthwise.forward_blocks(5, 25, 25)
        raise RuntimeError("as a launch may")
    assert depthwise.forward_blocks(5, 25, 25) == shipped


def test_the_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fastest is named; what fails or gives wrong values has its reason; what changes nothing is left out, and so
    are the backward's choices where a case is a forward."""

    def run() -> torch.Tensor:
        stages = warp.forward_config("none", "ieee", False, 5, 90)["num_stages"]
        if stages == 3:
            raise RuntimeError("out of resource")
        return torch.tensor(stages)

    def check(name: str) -> None:
        if warp.forward_config("none", "ieee", False, 5, 90)["num_warps"] == 4:
            raise AssertionError("values are wrong")

    def microseconds(run: Any, setting: Setting) -> float:
        return 10.0 * float(run()) - warp.PROGRAMS / 128

    monkeypatch.setattr(tuning, "kernels_microseconds", microseconds)
    monkeypatch.setitem(
        tuning.CHOICES,
        "correspondence_warp",
        (
            tuning.Choice(warp, "PROGRAMS", (64, 256, 128)),
            tuning.Choice(warp, "forward_config", ({"num_stages": 1}, {"num_stages": 3}, {"num_warps": 4}), True),
            tuning.Choice(warp_backward, "values_config", ({"num_warps": 8},), True, False),
        ),
    )
    case = Case(
        "correspondence_warp", "small", "forward", {}, (OURS,), lambda device, compiled: Made({OURS: run}, check)
    )
    setting = Setting(tmp_path, tmp_path / "rows", "cpu")
    programs, stages = tuning.compared(case, setting)
    assert programs["us"] == {"64": 19.5, "256": 18.0}
    assert (programs["shipped_us"], programs["best"]) == (19.0, "256")
    assert stages["us"] == {
        "{'num_stages': 1}": 9.0,
        "{'num_stages': 3}": "RuntimeError: out of resource",
        "{'num_warps': 4}": "AssertionError: values are wrong",
    }
    assert stages["best"] == "{'num_stages': 1}"
    setting.left = lambda: -1.0
    assert list(tuning.compared(case, setting)) == []


def test_the_largest_cases_of_each_op_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def sized(op: str, size: int) -> Case:
        return Case(op, str(size), "forward", {}, (OURS,), lambda device, compiled: Made({}, print), bytes=size)

    def loaded(tiny: bool) -> tuple[list[Case], dict[str, Exception]]:
        return [sized(op, size) for op in ("xcorr full", "other", "crop_and_resize") for size in (1, 3, 2)], {}

    monkeypatch.setattr(tuning.timing, "loaded", loaded)
    tasks: Iterator[Any] = tuning.tuning(Setting(tmp_path, tmp_path / "rows"))
    assert [task.name for task in tasks] == [
        f"{op}, {size}, forward" for size in (3, 2, 1) for op in ("xcorr full", "crop_and_resize")
    ]
