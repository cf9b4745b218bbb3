"""The crop equals OpenCV's resize of the padded window, its reference and the seed's own arithmetic, everywhere."""

from __future__ import annotations

import multiprocessing
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import siamfast
from siamfast.ops import crop_and_resize as crop_module
from siamfast.ops import dispatch
from siamfast.ops.crop_and_resize.windows import CONVENTIONS

PATHS = ("baseline", "avx2", "avx512")
BORDERS = {"mean": cv2.BORDER_CONSTANT, "replicate": cv2.BORDER_REPLICATE, "reflect": cv2.BORDER_REFLECT_101}


def _place(name: str, center: float, size: float) -> tuple[int, int]:
    """(corner, side) along one axis as each project rounds, in its own arithmetic."""
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
    """What the project `name` makes of a window, by way of OpenCV."""
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
def test_every_convention_is_within_one_grey_level_of_opencv(
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
    """The seed in our words: truncated mean, rounded size, the whole frame padded, cut, resized."""
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


@settings(max_examples=60)
@given(st.data())
def test_all_backends_equal_the_reference(data: st.DataObject) -> None:
    channels = data.draw(st.sampled_from([1, 2, 3, 4, 7]))
    shape = (channels, data.draw(st.integers(1, 24)), data.draw(st.integers(1, 24)))
    count = data.draw(st.integers(0, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    image = torch.from_numpy(rng.uniform(0, 255, shape))
    call: dict[str, Any] = {
        "centers": rng.uniform(-10, 34, (count, 2)),
        "sizes": rng.uniform(0.5, 60, (count, 2)),
        "out_size": (data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))),
        "rounding": data.draw(st.sampled_from(sorted(CONVENTIONS))),
        "fill": data.draw(st.sampled_from(["mean", "replicate", "reflect", 7.0])),
        "antialias": data.draw(st.booleans()),
        "layout": "chw",
    }
    # A rounding to whole grey levels may fall either way; the others are an interpolation's rounding at that dtype.
    allowed = {torch.uint8: 1.0, torch.float32: 2e-3, torch.bfloat16: 1.0, torch.float16: 0.13}
    for dtype, tolerance in allowed.items():
        typed = image.to(dtype)
        with siamfast.backend("reference"):
            expected = siamfast.crop_and_resize(typed, **call).double()
        for name in ("cpp", "torch"):
            with siamfast.backend(name):
                crops = siamfast.crop_and_resize(typed, **call)
            assert crops.dtype == dtype
            assert crops.shape == expected.shape
            assert (crops.double() - expected).abs().max().item() <= tolerance if crops.numel() else True, (name, dtype)


@pytest.mark.parametrize("rounding", ["pixel", "subpixel", "video_analyst"])
@pytest.mark.parametrize("antialias", [False, True])
def test_instruction_sets_give_the_same_bits(monkeypatch: pytest.MonkeyPatch, rounding: str, antialias: bool) -> None:
    results = {}
    for path in PATHS:
        monkeypatch.setenv("SIAMFAST_CPU", path)
        try:
            dispatch.extension()[0].cpu_path()  # type: ignore[union-attr]
        except ValueError:
            continue  # this CPU has it not
        parts = []
        for dtype in (np.uint8, np.float32, np.float16):
            image = np.random.default_rng(1).uniform(0, 255, (61, 83, 3)).astype(dtype)
            for view in (image, image[..., ::-1], image[:, ::-1]):
                options: dict[str, Any] = {"rounding": rounding, "antialias": antialias}
                parts.append(siamfast.crop_and_resize(view, [[20, 9], [70, 60]], [33, 90.5], 31, **options))
                parts.append(siamfast.mean_color(view))
        results[path] = parts
    assert "baseline" in results
    for path, parts in results.items():
        for ours, expected in zip(parts, results["baseline"], strict=True):
            np.testing.assert_array_equal(ours, expected, err_msg=path)


def test_an_unknown_instruction_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIAMFAST_CPU", "sse9")
    with pytest.raises(ValueError, match="SIAMFAST_CPU: got 'sse9', expected baseline, avx2 or avx512"):
        siamfast.crop_and_resize(np.zeros((4, 4, 3), np.uint8), (1, 1), 2, 2)


@pytest.mark.parametrize("name", sorted(set(CONVENTIONS) - {"subpixel", "pytracking"}))
def test_a_window_outside_is_exactly_the_conventions_mean(name: str) -> None:
    """One grey level is all that a truncated and a rounded mean differ by, so the comparison with OpenCV has no say."""
    image = np.full((10, 10, 3), 7, np.uint8)
    image[0] = [8, 17, 0]  # means 7.1, 8.0, 6.3
    image[1:9, :, 0] = 8  # 7.9
    for kind in (image, torch.from_numpy(image)):
        crop = np.asarray(siamfast.crop_and_resize(kind, (500, 500), 20, 4, rounding=name))
        assert (crop == _fill(name, image)).all()


@pytest.mark.parametrize("rounding", sorted(CONVENTIONS))
@pytest.mark.parametrize("antialias", [False, True])
def test_a_skipped_mean_changes_nothing(rounding: str, antialias: bool) -> None:
    """Windows around the rim, where it is decided whether the mean is seen: it is always as with the mean given."""
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
    """As on a GPU; the widest rows whose sum float32 holds, and wider ones."""
    monkeypatch.setattr(crop_module, "_serves_numpy", lambda _: False)
    pixels = torch.randint(0, 256, (2, 3, 3, width), dtype=torch.uint8)
    pixels[1] = 255
    torch.testing.assert_close(crop_module._tensor_mean(pixels), pixels.double().mean((2, 3)), rtol=1e-15, atol=0)


def test_several_boxes_equal_each_box_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    centers, sizes = np.random.default_rng(1).uniform(-20, 130, (9, 2)), np.linspace(3, 150, 9)
    together = siamfast.crop_and_resize(image, centers, sizes, 33)
    for m in range(9):
        np.testing.assert_array_equal(together[m], siamfast.crop_and_resize(image, centers[m], sizes[m], 33)[0])


def test_a_box_outside_the_image_is_the_fill() -> None:
    image = np.full((20, 20, 3), 200, np.uint8)
    crop = siamfast.crop_and_resize(image, (-500, 900), 64, 16, fill=(1, 2, 3))
    assert (crop == np.array([1, 2, 3])).all()


def test_subpixel_without_scaling_equals_the_image() -> None:
    image = torch.rand(3, 9, 9, dtype=torch.float64)
    crop = siamfast.crop_and_resize(image, (4, 4), 9, 9, rounding="subpixel")
    torch.testing.assert_close(crop[0], image)


def test_antialias_equals_torchs_when_the_whole_image_shrinks() -> None:
    image = torch.rand(1, 3, 40, 52, dtype=torch.float64)
    expected = torch.nn.functional.interpolate(image, (13, 9), mode="bilinear", antialias=True)
    crop = siamfast.crop_and_resize(image[0], (25.5, 19.5), [[52, 40]], (13, 9), antialias=True)
    torch.testing.assert_close(crop, expected)


def test_each_window_of_a_batch_is_cut_from_its_image() -> None:
    images = torch.rand(3, 3, 20, 24)
    centers, sizes = torch.tensor([[3.0, 4], [20, 10], [12, 19]]), torch.tensor([8.0, 30, 11])
    together = siamfast.crop_and_resize(images, centers, sizes, 7)
    for n in range(3):
        torch.testing.assert_close(together[n], siamfast.crop_and_resize(images[n], centers[n], sizes[n], 7)[0])
    arrays = siamfast.crop_and_resize(images.permute(0, 2, 3, 1).numpy(), centers, sizes, 7)
    torch.testing.assert_close(torch.from_numpy(arrays).permute(0, 3, 1, 2), together)


def test_torch_images_of_all_layouts_are_taken() -> None:
    chw = torch.rand(3, 20, 24)
    hwc = chw.permute(1, 2, 0).contiguous()
    expected = siamfast.crop_and_resize(chw, (5, 5), 9, 6)
    torch.testing.assert_close(siamfast.crop_and_resize(hwc, (5, 5), 9, 6).permute(0, 3, 1, 2), expected)
    wide = torch.rand(5, 20, 24)  # five channels: CHW
    assert siamfast.crop_and_resize(wide, (5, 5), 9, 6).shape == (1, 5, 6, 6)
    assert siamfast.crop_and_resize(wide, (5, 5), 9, 6, layout="hwc").shape == (1, 6, 6, 24)


def test_out_is_written_with_any_strides() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    expected = siamfast.crop_and_resize(image, (5, 5), 20, 8)
    planar = np.zeros((1, 3, 8, 8), np.uint8).transpose(0, 2, 3, 1)
    assert siamfast.crop_and_resize(image, (5, 5), 20, 8, out=planar) is planar
    np.testing.assert_array_equal(planar, expected)
    tensor = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    siamfast.crop_and_resize(torch.from_numpy(image).permute(2, 0, 1), (5, 5), 20, 8, out=tensor)
    np.testing.assert_array_equal(tensor.permute(0, 2, 3, 1), expected)


def test_nothing_beside_the_image_is_read() -> None:
    """The image in a sea of NaN, windows over all its edges: only numbers come out."""
    surrounding = np.full((30, 34, 3), np.nan, np.float32)
    surrounding[5:25, 6:28] = 1.0
    crop = siamfast.crop_and_resize(surrounding[5:25, 6:28], [[0, 0], [21, 19], [11, 10]], [30, 40, 90.5], 16, fill=1.0)
    np.testing.assert_array_equal(crop, 1.0)


def test_offsets_beyond_two_gigabytes_are_right() -> None:
    """An image of 16k x 16k x 9 bytes a pixel by stride: its last pixel lies 2.4 GB behind its first."""
    big = np.zeros((16_000, 16_000 * 9), np.uint8)  # zero pages: no memory is taken until it is written
    view = big.reshape(16_000, 16_000, 9)[..., :3]
    view[-1, -1] = 255
    assert siamfast.crop_and_resize(view, (15_999, 15_999), 1, 1, fill=0)[0].tolist() == [[[255, 255, 255]]]


def _crop_in_child(queue: Any) -> None:
    image = np.arange(512 * 512 * 3, dtype=np.uint8).reshape(512, 512, 3)
    queue.put(int(siamfast.crop_and_resize(image, (200, 200), 400, 255).sum()))


def test_a_forked_worker_can_crop_after_the_parent_did() -> None:
    """DataLoader forks: the child has the parent's pool but none of its threads."""
    image = np.arange(512 * 512 * 3, dtype=np.uint8).reshape(512, 512, 3)
    expected = int(siamfast.crop_and_resize(image, (200, 200), 400, 255).sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_crop_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(timeout=60)
    assert child.exitcode == 0


def test_several_python_threads_can_crop_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    expected = siamfast.crop_and_resize(image, (150, 100), 280, 255)
    with ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(siamfast.crop_and_resize, image, (150, 100), 280, 255) for _ in range(64)]
        assert all(np.array_equal(job.result(), expected) for job in jobs)


def test_context_size_equals_the_formula() -> None:
    assert siamfast.context_size((0, 0, 100, 100)) == 200
    np.testing.assert_allclose(siamfast.context_size([[0, 0, 30, 50], [9, 9, 1, 1]]), [np.sqrt(70 * 90), 2])
    assert siamfast.context_size((0, 0, 30, 50), context_amount=0) == np.sqrt(1500)


I = np.zeros((10, 12, 3), np.uint8)  # noqa: E741


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: siamfast.crop_and_resize([[1]], (1, 1), 2, 2), TypeError, "image: got list, expected a numpy array"),
        (lambda: siamfast.crop_and_resize(I[0], (1, 1), 2, 2), ValueError, r"image: got shape \(12, 3\)"),
        (lambda: siamfast.crop_and_resize(I[:0], (1, 1), 2, 2), ValueError, r"image: got shape \(0, 12, 3\)"),
        (lambda: siamfast.crop_and_resize(I.astype(int), (1, 1), 2, 2), TypeError, "image: got dtype int64"),
        (lambda: siamfast.crop_and_resize(I, (np.nan, 1), 2, 2), ValueError, "centers: got nan, expected finite"),
        (lambda: siamfast.crop_and_resize(I, (1, np.inf), 2, 2), ValueError, "centers: got inf, expected finite"),
        (lambda: siamfast.crop_and_resize(I, (1, 1, 1), 2, 2), ValueError, r"centers: got shape \(1, 3\)"),
        (lambda: siamfast.crop_and_resize(I, "ab", 2, 2), TypeError, "centers: got str, expected numbers"),
        (
            lambda: siamfast.crop_and_resize(I, (1, 1), 0, 2),
            ValueError,
            "sizes: got 0.0, expected finite numbers above",
        ),
        (lambda: siamfast.crop_and_resize(I, (1, 1), np.nan, 2), ValueError, "sizes: got nan, expected finite"),
        (lambda: siamfast.crop_and_resize(I, (1, 1), 2e6, 2), ValueError, "sizes: got 2000000.0, expected"),
        (lambda: siamfast.crop_and_resize(I, [(1, 1)] * 2, [1, 2, 3], 2), ValueError, "sizes: got 3, expected as many"),
        (lambda: siamfast.crop_and_resize(I, (1, 1), 2, 0), ValueError, "out_size: got 0, expected 1 to 65536"),
        (lambda: siamfast.crop_and_resize(I, (1, 1), 2, 2.5), TypeError, "out_size: got 2.5, expected a whole number"),
        (lambda: siamfast.crop_and_resize(I, (1, 1), 2, 2, fill="black"), ValueError, "fill: got 'black', expected"),
        (lambda: siamfast.crop_and_resize(I, (1, 1), 2, 2, fill=(1, 2)), ValueError, r"fill: got \(1, 2\), expected"),
        (
            lambda: siamfast.crop_and_resize(I, (1, 1), 2, 2, rounding="x"),
            ValueError,
            "rounding: got 'x', expected one",
        ),
        (lambda: siamfast.crop_and_resize(I, (1, 1), 2, 2, layout="x"), ValueError, "layout: got 'x', expected"),
        (
            lambda: siamfast.crop_and_resize(I, (1, 1), 2, 2, out=I),
            ValueError,
            r"out: got \(10, 12, 3\) uint8, expected",
        ),
        (lambda: siamfast.crop_and_resize(I, (1, 1), 2, 2, out=[1]), TypeError, "out: got list, expected a ndarray"),
        (lambda: siamfast.crop_and_resize(I[None][[0, 0]], [(1, 1)] * 3, 2, 2), ValueError, "one for each of 2 images"),
        (lambda: siamfast.context_size((0, 0, 0, 1)), ValueError, "boxes: got .*, expected finite numbers"),
        (lambda: siamfast.siamfc_crops(I[0], (0, 0, 1, 1)), TypeError, "image: got ndarray, expected a numpy array"),
    ],
)
def test_bad_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
