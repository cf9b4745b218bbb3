"""All backends of crop_and_resize equal the reference, in any layout and from any thread; bad arguments are named."""

from __future__ import annotations

import multiprocessing
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import siamfast
from siamfast.ops import dispatch
from siamfast.ops.crop_and_resize.windows import CONVENTIONS

PATHS = ("baseline", "avx2", "avx512")


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
    # A rounding to whole gray levels may fall either way; the others are an interpolation's rounding at that dtype.
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
            continue  # this CPU does not have it
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
    """The image is surrounded by NaN and windows cross all its edges: the crops contain no NaN."""
    surrounding = np.full((30, 34, 3), np.nan, np.float32)
    surrounding[5:25, 6:28] = 1.0
    crop = siamfast.crop_and_resize(surrounding[5:25, 6:28], [[0, 0], [21, 19], [11, 10]], [30, 40, 90.5], 16, fill=1.0)
    np.testing.assert_array_equal(crop, 1.0)


def test_offsets_beyond_two_gigabytes_are_right() -> None:
    """An image of 16k x 16k with a stride of 9 bytes per pixel: its last pixel is 2.4 GB after its first."""
    big = np.zeros((16_000, 16_000 * 9), np.uint8)  # zero pages: no memory is taken until it is written
    view = big.reshape(16_000, 16_000, 9)[..., :3]
    view[-1, -1] = 255
    assert siamfast.crop_and_resize(view, (15_999, 15_999), 1, 1, fill=0)[0].tolist() == [[[255, 255, 255]]]


def _crop_in_child(queue: Any) -> None:
    image = np.arange(512 * 512 * 3, dtype=np.uint8).reshape(512, 512, 3)
    queue.put(int(siamfast.crop_and_resize(image, (200, 200), 400, 255).sum()))


def test_a_forked_worker_can_crop_after_the_parent_did() -> None:
    """DataLoader forks: the child inherits the parent's pool but none of its threads."""
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
