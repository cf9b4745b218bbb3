"""crop_and_resize follows each project's convention: windows and means equal those of OpenCV and our first version."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import siamfast
from siamfast.ops import crop_and_resize as crop_module
from siamfast.ops.crop_and_resize.windows import CONVENTIONS, make_windows, within

BORDERS = {"mean": cv2.BORDER_CONSTANT, "replicate": cv2.BORDER_REPLICATE, "reflect": cv2.BORDER_REFLECT_101}


def _place(name: str, center: float, size: float) -> tuple[int, int]:
    """(corner, side) along one axis, rounded in each project's own arithmetic."""
    if name == "ostrack":
        side = int(np.ceil(size))
        return round(center + 0.5 - 0.5 * side), side
    side = max(1, round(size))
    if name == "pysot":
        return int(np.floor(center - (side + 1) / 2 + 0.5)), side
    if name == "pytracking":
        return int(center) - (side - 1) // 2, side
    return round(center - (side - 1) / 2), side


def _fill(name: str, image: np.ndarray) -> np.ndarray:
    if name == "ostrack":
        return np.zeros(3)
    mean = image.reshape(-1, 3).mean(0)
    return np.round(mean) if name == "siamfc-pytorch" else np.trunc(mean)


def _cut(image: np.ndarray, x: int, y: int, w: int, h: int, border: int, fill: np.ndarray) -> np.ndarray:
    """The window of the padded image."""
    rows = [cv2.borderInterpolate(i, image.shape[0], border) for i in range(y, y + h)]
    columns = [cv2.borderInterpolate(i, image.shape[1], border) for i in range(x, x + w)]
    window = image[np.ix_(np.maximum(rows, 0), np.maximum(columns, 0))]
    outside = (np.asarray(rows) < 0)[:, None] | (np.asarray(columns) < 0)
    return np.where(outside[..., None], fill.astype(np.uint8), window)


def _corner_aligned(image: np.ndarray, center: Any, size: float, out: int, border: int, fill: np.ndarray) -> np.ndarray:
    """video_analyst: the first and last cell on c -+ (s - 1) / 2, bilinear in exact arithmetic on the padded image."""
    step = (size - 1) / (out - 1) if out > 1 else 0.0
    x, y = (c - (size - 1) / 2 + np.arange(out) * step for c in center)
    (left, top), (xf, yf) = ([np.floor(a).astype(int) for a in (x, y)], [a - np.floor(a) for a in (x, y)])

    def pixels(ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        rows = np.array([cv2.borderInterpolate(int(i), image.shape[0], border) for i in ys])
        columns = np.array([cv2.borderInterpolate(int(i), image.shape[1], border) for i in xs])
        values = image[np.ix_(np.maximum(rows, 0), np.maximum(columns, 0))].astype(float)
        values[(rows < 0)[:, None] | (columns < 0)] = fill
        return values

    above = pixels(top, left) * (1 - xf)[:, None] + pixels(top, left + 1) * xf[:, None]
    below = pixels(top + 1, left) * (1 - xf)[:, None] + pixels(top + 1, left + 1) * xf[:, None]
    return above * (1 - yf)[:, None, None] + below * yf[:, None, None]


def _opencvs_crop(image: np.ndarray, name: str, center: Any, size: float, out: int, fill: str) -> np.ndarray:
    """The crop of the project `name`, computed with OpenCV."""
    border = cv2.BORDER_REPLICATE if name == "pytracking" and fill == "mean" else BORDERS[fill]
    if name == "video_analyst":
        return _corner_aligned(image, center, size, out, border, _fill(name, image))
    (x, side), (y, _) = _place(name, center[0], size), _place(name, center[1], size)
    window = _cut(image, x, y, side, side, border, _fill(name, image))
    return cv2.resize(window, (out, out), interpolation=cv2.INTER_LINEAR).astype(int)


@st.composite
def views(draw: st.DrawFn) -> np.ndarray:
    """uint8 images of any small size, as any strided view of a larger one."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    image = np.random.default_rng(draw(st.integers(0, 2**31))).integers(
        0, 256, (2 * height, 3 * width, 3), dtype=np.uint8
    )
    view = draw(st.sampled_from(["plain", "bgr", "mirrored", "upside-down", "stepped", "planar"]))
    inner = image[:height, :width]
    if view == "bgr":
        return inner[..., ::-1]
    if view == "mirrored":
        return inner[:, ::-1]
    if view == "upside-down":
        return inner[::-1]
    if view == "stepped":
        return image[::2, ::3]
    return np.ascontiguousarray(inner.transpose(2, 0, 1)).transpose(1, 2, 0) if view == "planar" else inner.copy()


@settings(max_examples=2000)
@given(
    views(),
    st.sampled_from(sorted(set(CONVENTIONS) - {"subpixel"})),
    # Sixty-fourths of a pixel, halves among them: exact in every project's order of operations.
    st.integers(-60 * 64, 100 * 64).map(lambda v: v / 64),
    st.integers(-60 * 64, 100 * 64).map(lambda v: v / 64),
    # Small sides; the next test has the large ones, which OpenCV takes seconds for.
    st.floats(0.5, 300),
    st.integers(1, 64),
    st.sampled_from(["mean", "mean", "replicate", "reflect"]),
)
def test_every_convention_is_within_one_gray_level_of_opencv(
    image: np.ndarray, name: str, cx: float, cy: float, size: float, out: int, fill: str
) -> None:
    ours = siamfast.crop_and_resize(image, (cx, cy), size, out, rounding=name, fill=fill)[0].astype(int)
    assert np.abs(ours - _opencvs_crop(image, name, (cx, cy), size, out, fill)).max() <= 1


@pytest.mark.parametrize("name", sorted(set(CONVENTIONS) - {"subpixel"}))
@pytest.mark.parametrize(
    ("shape", "center", "size", "out"),
    [
        ((1, 1), (-900.0, 1400.25), 3000.5, 255),
        ((37, 53), (-1500.0, 20.5), 3000.5, 3),
        ((37, 53), (20.5, 11), 1e4, 255),
    ],
)
def test_windows_of_thousands_of_pixels_equal_opencvs(
    name: str, shape: tuple[int, int], center: tuple[float, float], size: float, out: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    ours = siamfast.crop_and_resize(image, center, size, out, rounding=name)[0].astype(int)
    assert np.abs(ours - _opencvs_crop(image, name, center, size, out, "mean")).max() <= 1


def _seeds_crop(image: np.ndarray, box: Any, out: int, instance: int) -> np.ndarray:
    """The first version's steps: truncated mean, rounded size, the whole frame padded, cut, resized."""
    x, y, w, h = box
    pad = 0.5 * (w + h)
    size = round(np.sqrt((w + pad) * (h + pad)) * instance / 127)
    corner = [round(c - (size - 1) / 2) for c in (x + (w - 1) / 2, y + (h - 1) / 2)]
    mean = image.mean((0, 1)).astype(np.uint8)
    reach = max(0, -corner[0], -corner[1], corner[0] + size - image.shape[1], corner[1] + size - image.shape[0])
    padded = np.empty((image.shape[0] + 2 * reach, image.shape[1] + 2 * reach, 3), np.uint8)
    padded[:] = mean
    padded[reach : reach + image.shape[0], reach : reach + image.shape[1]] = image
    cut = padded[corner[1] + reach : corner[1] + reach + size, corner[0] + reach : corner[0] + reach + size]
    return cv2.resize(cut, (out, out))


_PLACE = st.one_of(st.floats(-300, 300), st.integers(-600, 600).map(lambda i: i / 2))
_SIDE = st.one_of(st.floats(0.01, 400), st.integers(1, 800).map(lambda i: i / 2))


@given(st.sampled_from(sorted(CONVENTIONS)), st.lists(st.tuples(_PLACE, _PLACE, _SIDE, _SIDE), min_size=9, max_size=20))
def test_many_windows_are_placed_as_each_alone(name: str, rows: list[tuple[float, float, float, float]]) -> None:
    """Many are computed as arrays, few as numbers, in whatever form they come."""
    boxes, chosen = np.array(rows), CONVENTIONS[name]
    together = make_windows(boxes[:, :2], boxes[:, 2], chosen)
    alone = [make_windows((x, y), side, chosen) for x, y, side, _ in rows]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    np.testing.assert_array_equal(together[:3], make_windows(boxes[:3, :2], boxes[:3, 2], chosen))
    np.testing.assert_array_equal(together[:3], make_windows([list(row[:2]) for row in rows[:3]], boxes[:3, 2], chosen))
    oblong = make_windows(boxes[:, :2], boxes[:, 2:], chosen)
    np.testing.assert_array_equal(oblong[:, [0, 2]], together[:, [0, 2]])
    np.testing.assert_array_equal(oblong[:, [1, 3]], make_windows(boxes[:, :2], boxes[:, 3], chosen)[:, [1, 3]])
    inside = [within(window, 240, 320, chosen, antialias=False) for window in alone]
    assert within(together, 240, 320, chosen, antialias=False) == all(inside)


@settings(max_examples=60)
@given(st.floats(-30, 150), st.floats(-30, 110), st.floats(2, 80), st.floats(2, 80))
def test_siamfc_crops_equal_the_seeds(x: float, y: float, w: float, h: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 140, 3), dtype=np.uint8)
    crops = siamfast.siamfc_crops(image, (x, y, w, h))
    for ours, out, instance in ((crops.template, 127, 127), (crops.search, 255, 255)):
        assert np.abs(ours.astype(int) - _seeds_crop(image, (x, y, w, h), out, instance)).max() <= 1
    left, top, side = crops.search_window
    assert crops.search_padding == tuple(max(0, int(v)) for v in (-left, -top, left + side - 140, top + side - 100))
    np.testing.assert_allclose(crops.search_box, (np.array([x, y, w, h]) - [left, top, 0, 0]) * 255 / side)


@pytest.mark.parametrize("name", sorted(set(CONVENTIONS) - {"subpixel", "pytracking"}))
def test_a_window_outside_is_exactly_the_conventions_mean(name: str) -> None:
    """A truncated and a rounded mean differ by one gray level at most, which the comparison with OpenCV allows."""
    image = np.full((10, 10, 3), 7, np.uint8)
    image[0] = [8, 17, 0]  # means 7.1, 8.0, 6.3
    image[1:9, :, 0] = 8  # 7.9
    for kind in (image, torch.from_numpy(image)):
        crop = np.asarray(siamfast.crop_and_resize(kind, (500, 500), 20, 4, rounding=name))
        assert (crop == _fill(name, image)).all()


@pytest.mark.parametrize("rounding", sorted(CONVENTIONS))
@pytest.mark.parametrize("antialias", [False, True])
def test_a_skipped_mean_changes_nothing(rounding: str, antialias: bool) -> None:
    """Windows near the border, where it is decided whether the mean is needed, equal crops with the mean given."""
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    mean = siamfast.mean_color(image)
    given = {"siamfc-pytorch": np.round, "subpixel": np.asarray, "ostrack": np.zeros_like}.get(rounding, np.trunc)(mean)
    fill = "replicate" if rounding == "pytracking" else given
    for center in (3.5, 4, 4.25, 5, 6, 25, 25.5, 26, 34.75, 35, 36):
        call = {"centers": (center, center * 0.75), "sizes": 9, "rounding": rounding, "antialias": antialias}
        for out in (3, 9, 20):
            crop = siamfast.crop_and_resize(image, out_size=out, **call)
            np.testing.assert_array_equal(crop, siamfast.crop_and_resize(image, out_size=out, fill=fill, **call))


def test_the_mean_is_exact_and_can_be_reused() -> None:
    image = np.random.default_rng(0).integers(0, 256, (301, 277, 3), dtype=np.uint8)
    mean = siamfast.mean_color(image)
    np.testing.assert_allclose(mean, image.reshape(-1, 3).mean(0), rtol=1e-15)
    once = siamfast.crop_and_resize(image, (0, 0), 200, 64, rounding="siamfc", fill=np.trunc(mean))
    np.testing.assert_array_equal(once, siamfast.crop_and_resize(image, (0, 0), 200, 64, rounding="siamfc"))


@pytest.mark.parametrize("width", [277, 65_792, 65_794])
def test_the_mean_is_exact_without_simd_sums(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU; the widest rows whose sum is exact in float32, and wider ones."""
    monkeypatch.setattr(crop_module, "_serves_numpy", lambda _: False)
    pixels = torch.randint(0, 256, (2, 3, 3, width), dtype=torch.uint8)
    pixels[1] = 255
    torch.testing.assert_close(crop_module._tensor_mean(pixels), pixels.double().mean((2, 3)), rtol=1e-15, atol=0)
