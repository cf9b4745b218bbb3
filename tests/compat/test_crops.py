"""Crops by the part of the frame that their window reads: equal to the pixel."""

from __future__ import annotations

import importlib
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siamfast.compat import crops
from tests.compat.projects import CROPS, make_package

FUNCTIONS = ("get_subwindow", "get_subwindow_tracking", "crop_and_resize")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> types.ModuleType:
    root = tmp_path_factory.mktemp("crops")
    make_package(root, "cropping_project", {"crops.py": CROPS})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        return importlib.import_module("cropping_project.crops")


def arguments(name: str, place: Any, side: float, frame: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    mean = frame.mean((0, 1))
    if name == "crop_and_resize":
        return (frame, np.array(place[::-1]), side, 31), {"border_value": mean}
    return (frame, np.array(place), 31, round(side), mean), {}


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(deadline=None)
@given(
    size=st.tuples(st.integers(20, 70), st.integers(20, 70)),
    place=st.tuples(*(st.floats(-20, 90) | st.integers(-20, 90).map(lambda n: n / 2) for _ in "xy")),
    side=st.floats(3, 120),
    seed=st.integers(0, 100),
)
def test_equal_to_the_pixel(
    project: types.ModuleType, name: str, size: tuple[int, int], place: tuple[float, float], side: float, seed: int
) -> None:
    original = getattr(project, name)
    near = crops.near_crop(original, name)
    assert near is not None
    frame = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    positional, named = arguments(name, place, side, frame)
    try:
        truth = original(*positional, **named)
    except Exception as error:  # a window beside the frame: their resize of nothing
        with pytest.raises(type(error)):
            near(*positional, **named)
        return
    assert crops.same(truth, near(*positional, **named))


def test_only_a_part_of_the_frame_reaches_the_original() -> None:
    seen = []

    def get_subwindow(im: Any, pos: Any, model_sz: Any, original_sz: Any, avg_chans: Any) -> Any:
        seen.append(im.shape)
        return im

    near = crops.NearCrop(get_subwindow, crops.SIGNATURES["get_subwindow"])
    near(np.zeros((1000, 1000, 3), np.uint8), np.array([990.0, 500.0]), 31, 100, None)
    near(np.zeros((1000, 1000, 3), np.uint8), np.array([500.0, 500.0]), 31, 100, None)
    assert seen[0][0] < 110
    assert seen[0][1] < 70
    assert seen[1] == (1000, 1000, 3)  # nothing to pad


def test_a_crop_that_reads_elsewhere_is_left_alone() -> None:
    def get_subwindow(im: Any, pos: Any, model_sz: Any, original_sz: Any, avg_chans: Any) -> Any:
        return im[0, 0] + np.asarray(pos)[0]

    assert crops.near_crop(get_subwindow, "get_subwindow") is None
    assert crops.near_crop(lambda frame: frame, "get_subwindow") is None


def test_methods_are_found_with_their_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_package(
        tmp_path, "method_project", {"base.py": "class Base:\n    def get_subwindow(self, im):\n        pass\n"}
    )
    monkeypatch.syspath_prepend(tmp_path)
    base = importlib.import_module("method_project.base")
    assert crops.known([base]) == [(base, base.Base, "get_subwindow", base.Base.get_subwindow)]


def test_a_center_in_float32_is_rounded_as_in_the_whole_frame() -> None:
    def corner(center: Any, side: int) -> Any:
        return np.round(center - (side - 1) / 2)

    near = crops.NearCrop(lambda *arguments: list(arguments), crops.SIGNATURES["crop_and_resize"])
    noise, frame = np.random.default_rng(0), np.zeros((2160, 3840, 3), np.uint8)
    for _ in range(300):
        side = int(noise.integers(100, 900))
        places = side / 2 - noise.integers(1, 90, 2) + noise.normal(0, 1e-5, 2)  # a corner between two pixels, nearly
        center = places.astype(np.float32)
        _, moved, *_ = near(frame, center, side, 127)
        shift = np.round(center.astype(np.float64) - moved)
        assert np.array_equal(corner(moved, side) + shift, corner(center, side))
