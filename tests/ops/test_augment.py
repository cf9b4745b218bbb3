"""augment: the reference against hand-made oracles, every backend against the reference, bad arguments named."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import siamfast
from siamfast.ops import dispatch
from siamfast.ops.augment import augment, no_draws
from siamfast.ops.augment.reference import COLUMNS, noise
from tests.threads import threads

AT = {name: number for number, name in enumerate(COLUMNS)}
SHAPE = (2, 3, 30, 41)


def crops(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def draws(count: int = 2, size: tuple[int, int] = (30, 41), **columns: float) -> torch.Tensor:
    table = no_draws(count, size)
    for name, value in columns.items():
        table[:, AT[name]] = value
    return table


def exact(images: torch.Tensor, table: torch.Tensor, **options: Any) -> torch.Tensor:
    with siamfast.backend("reference"):
        return augment(images, table, dtype=torch.float64, **options)


# ---- the reference against oracles
def test_neutral_draws_change_nothing() -> None:
    assert torch.equal(exact(crops(), draws()), crops().double())


def test_a_smaller_output_is_the_middle_of_the_image() -> None:
    assert torch.equal(exact(crops(), draws(), out_size=(20, 21)), crops().double()[..., 5:25, 10:31])


def test_a_negative_step_mirrors() -> None:
    assert torch.equal(exact(crops(), draws(step_x=-1)), crops().double().flip(3))
    assert torch.equal(exact(crops(), draws(step_y=-1)), crops().double().flip(2))


def test_geometry_equals_crop_and_resize() -> None:
    """A window of 25.5 x 33.2 pixels around (17.3, 12.1), at 30 x 40: bilinear both, and inside the image."""
    images = crops((1, 3, 40, 50))
    table = draws(1, (40, 50), x=17.3, y=19.1, step_x=33.2 / 40, step_y=25.5 / 30)
    result = exact(images, table, out_size=(30, 40))
    window = siamfast.crop_and_resize(
        images.double(), torch.tensor([[17.3, 19.1]]), torch.tensor([[33.2, 25.5]]), (30, 40), rounding="subpixel"
    )
    torch.testing.assert_close(
        result, window, atol=1e-3, rtol=0
    )  # the draws are float32: places are exact to 4e-6 pixels


def test_a_step_of_two_equals_an_antialiased_resize() -> None:
    images = crops((1, 3, 32, 32))
    result = exact(images, draws(1, (32, 32), step_x=2, step_y=2), out_size=16)
    smaller = torch.nn.functional.interpolate(images.double(), size=16, mode="bilinear", antialias=True)
    torch.testing.assert_close(result[..., 2:-2, 2:-2], smaller[..., 2:-2, 2:-2])


def test_blur_is_close_to_opencvs() -> None:
    """The Gaussian less its height at 3 sigma against the Gaussian: they differ by 1 % of the weights."""
    images = crops((1, 3, 40, 40))
    result = exact(images, draws(1, (40, 40), blur=1.5))[0].permute(1, 2, 0).numpy()
    peer = cv2.GaussianBlur(images[0].permute(1, 2, 0).double().numpy(), (0, 0), 1.5)
    inner = np.s_[6:-6, 6:-6]
    assert np.abs(result[inner] - peer[inner]).max() < 3
    assert np.abs(images[0].permute(1, 2, 0).numpy()[inner] - peer[inner]).max() > 50


def test_color_changes_equal_torchvisions_formulas() -> None:
    """Its saturation, contrast and brightness of float images, with contrast about the mean of every 8th pixel."""
    images = crops()
    x = images.double()
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(1, 3, 1, 1)
    pivot = (x[..., ::8, ::8].mean((2, 3), keepdim=True) * luma).sum(1, keepdim=True)
    gray = (x * luma).sum(1, keepdim=True)
    x = 0.7 * x + 0.3 * gray
    x = 1.2 * x + (1 - 1.2) * pivot
    result = exact(images, draws(saturation=0.7, contrast=1.2, brightness=1.3))
    torch.testing.assert_close(result, (1.3 * x).clamp(0, 255), atol=2e-4, rtol=0)  # 0.7 is float32's


def test_outside_the_image_and_in_the_cutout_is_the_mean() -> None:
    images = crops()
    mean = images.double()[..., ::8, ::8].mean((2, 3))
    far = exact(images, draws(x=1000))
    torch.testing.assert_close(far, mean[:, :, None, None].expand_as(far))
    cut = exact(images, draws(left=3, top=5, right=10, bottom=6))
    torch.testing.assert_close(cut[:, :, 5, 3:10], mean[:, :, None].expand(2, 3, 7))
    cut[:, :, 5, 3:10] = images[:, :, 5, 3:10].double()
    assert torch.equal(cut, images.double())


def test_noise_is_normal_and_depends_on_the_seed() -> None:
    drawn = noise(12345, 200_000)
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.std()) - 1) < 0.01
    assert abs(float((drawn.abs() < 1).double().mean()) - 0.68) < 0.02
    assert abs(float((drawn[1:] * drawn[:-1]).mean())) < 0.01
    other = noise(12346, 200_000)
    assert abs(float((drawn * other).mean())) < 0.01


def test_noise_has_its_sigma_and_stays_in_range() -> None:
    images = torch.full((1, 3, 100, 100), 128, dtype=torch.uint8)
    out = exact(images, draws(1, (100, 100), noise=10, seed=7))
    assert abs(float(out.std()) - 10) < 0.3
    saturated = exact(images, draws(1, (100, 100), noise=200, seed=7))
    assert float(saturated.min()) == 0
    assert float(saturated.max()) == 255


# ---- backends, any arguments
@st.composite
def calls(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    count, height, width = draw(st.integers(0, 4)), draw(st.integers(1, 70)), draw(st.integers(1, 70))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    images = torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)
    layout = draw(st.sampled_from(["contiguous", "channels_last", "cut out", "transposed", "expanded"]))
    if layout == "channels_last":
        images = images.contiguous(memory_format=torch.channels_last)
    elif layout == "cut out":  # surrounded by a wrong value
        surrounding = torch.full((count, 3, height + 5, width + 7), 255, dtype=torch.uint8)
        surrounding[..., 2:-3, 3:-4] = images
        images = surrounding[..., 2:-3, 3:-4]
    elif layout == "transposed":
        images = images.transpose(2, 3).contiguous().transpose(2, 3)
    elif layout == "expanded":
        images = images[:, :, :1].expand(-1, -1, height, -1)

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    def for_half(values: torch.Tensor, other: float) -> torch.Tensor:
        return torch.where(torch.rand(count, generator=generator) < 0.5, values, other)

    table = no_draws(count, (height, width))
    far = draw(st.sampled_from([1.0, 10.0, 1000.0]))
    table[:, 0:2] += torch.stack((uniform(-far, far), uniform(-far, far)), 1)
    for axis in (2, 3):
        sign = torch.where(torch.rand(count, generator=generator) < 0.5, 1.0, -1.0)
        table[:, axis] = for_half(uniform(0.5, 2), 1) * sign
    table[:, AT["blur"]] = for_half(uniform(0.5, 3), 0)
    for name in ("brightness", "contrast", "saturation"):
        table[:, AT[name]] = for_half(uniform(0, 2), 1)
    table[:, AT["noise"]] = for_half(uniform(0, 30), 0)
    table[:, AT["seed"]] = torch.randint(1 << 24, (count,), generator=generator).float()
    table[:, AT["left"] :] = torch.stack([uniform(-20, 80) for _ in range(4)], 1)
    options = {
        "out_size": draw(st.sampled_from([None, 1, 17, (33, 5), (48, 64)])),
        "mean": draw(st.sampled_from([0.0, (103.5, 116.3, 123.7)])),
        "std": draw(st.sampled_from([1.0, (57.4, 57.1, 58.4)])),
        "dtype": draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16])),
    }
    return images, table, options


def check(result: torch.Tensor, images: torch.Tensor, table: torch.Tensor, options: dict[str, Any]) -> None:
    with siamfast.backend("reference"):
        expected = augment(images, table, **options | {"dtype": torch.float64})
    assert result.shape == expected.shape
    assert result.dtype == options["dtype"]
    if result.numel():
        assert result.is_contiguous(memory_format=torch.channels_last)
    # Two sums of at most 18 products round at 255 levels times factors of up to 4; then the dtype rounds.
    std = torch.tensor(options["std"], dtype=torch.float64).expand(3)[:, None, None]
    allowed = 64 * 2.0**-24 * 255 * 4 / std
    rounding = {torch.float32: 2.0**-22, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-10}[options["dtype"]]
    assert bool(((result.double() - expected).abs() <= allowed + rounding * expected.abs()).all()), float(
        (result.double() - expected).abs().max()
    )


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_cpp_is_right_on_every_instruction_set(isa: str, data: st.DataObject) -> None:
    if dispatch.cpp_reason("cpu", torch.float32) is not None:
        pytest.skip(str(dispatch.cpp_reason("cpu", torch.float32)))
    images, table, options = data.draw(calls())
    with siamfast.backend("cpp"):
        check(augment(images, table, **options), images, table, options)


@settings(max_examples=40)
@given(calls())
def test_plain_torch_in_low_precision_is_right(call: tuple[torch.Tensor, torch.Tensor, dict[str, Any]]) -> None:
    images, table, options = call
    with siamfast.backend("torch"):
        check(augment(images, table, **options), images, table, options)


def test_the_thread_count_does_not_change_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    images, table = crops((1, 3, 255, 255)), draws(1, (255, 255), step_x=1.03, blur=0.9, noise=3, seed=9)
    with threads(1):
        expected = augment(images, table, out_size=239)
    with threads(4):
        assert torch.equal(augment(images, table, out_size=239), expected)


def test_augment_passes_opcheck_and_compiles() -> None:
    op = torch.ops.siamfast.augment.default
    torch.library.opcheck(op, (crops(), draws(), 20, 21, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0], torch.float32))
    compiled = torch.compile(lambda i, d: augment(i, d, out_size=24, std=60.0) * 2, fullgraph=True, backend="eager")
    table = draws(noise=3, seed=9)
    assert torch.equal(compiled(crops(), table), augment(crops(), table, out_size=24, std=60.0) * 2)


# ---- bad arguments
@pytest.mark.parametrize(
    ("images", "table", "options", "message"),
    [
        (crops().float(), draws(), {}, "images: got torch.float32"),
        ([1], draws(), {}, "images: got list"),
        (crops()[:, :2], draws(), {}, r"images: got shape \(2, 2, 30, 41\)"),
        (crops(), draws().double(), {}, "draws: got torch.float64"),
        (crops(), draws(3), {}, r"draws: got shape \(3, 14\)"),
        (crops(), draws(step_x=0.3), {}, r"draws: step_x of image 0 is 0.3.*, expected 0.5 to 2"),
        (crops(), draws(step_y=-2.5), {}, "draws: step_y"),
        (crops(), draws(x=float("nan")), {}, "draws: x of image 0 is nan"),
        (crops(), draws(blur=0.2), {}, "draws: blur of image 0 is 0.2.*, expected 0, or 0.5 to 3"),
        (crops(), draws(seed=1.5), {}, "draws: seed of image 0 is 1.5, expected a whole number"),
        (crops(), draws(brightness=-1), {}, "draws: brightness"),
        (crops(), draws(bottom=float("nan")), {}, "draws: bottom of image 0 is nan, expected -1000000.0 to 1000000.0"),
        (crops(), draws(left=float("-inf")), {}, "draws: left of image 0 is -inf"),
        (crops(), draws(), {"out_size": 0}, "out_size: got 0"),
        (crops(), draws(), {"std": 0}, "std: got 0"),
        (crops(), draws(), {"out_size": "10"}, "out_size: got '10'"),
        (crops(), draws(), {"out_size": (10.7, 10)}, r"out_size: got \(10.7, 10\)"),
        (crops(), draws(), {"mean": (1, 2)}, r"mean: got \(1, 2\), expected a number"),
        (crops(), draws(), {"mean": "123"}, "mean: got '123'"),
        (crops(), draws(), {"mean": None}, "mean: got None"),
        (crops(), draws(), {"std": float("nan")}, "std: got nan"),
        (crops(), draws().to("meta"), {}, "draws: got them on meta"),
        (crops(), draws(), {"dtype": torch.int8}, "dtype: got torch.int8"),
    ],
)
def test_bad_arguments_are_named(images: Any, table: torch.Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        augment(images, table, **options)


def test_a_tensor_of_means_counts_by_its_values() -> None:
    mean = torch.zeros(3)
    first = augment(crops(), draws(), mean=mean)
    mean.fill_(100)
    torch.testing.assert_close(augment(crops(), draws(), mean=mean), first - 100)


LIMITS = (0.0, -0.0, 0.3, -0.3, 0.5, -0.5, 2.0, -2.0, 2.5, 3.0, 100.0, 101.0, 255.0, 256.0, 1e6, -1e6, 2e6, 2.0**24)


@settings(max_examples=200)
@given(st.integers(0, 2), st.sampled_from(COLUMNS), st.one_of(st.floats(width=32), st.sampled_from(LIMITS)))
def test_draws_are_judged_alike_with_and_without_cpp(row: int, column: str, number: float) -> None:
    table, images = draws(3), crops((3, 3, 4, 4))
    table[row, AT[column]] = number

    def verdict(given: torch.Tensor) -> str:
        try:
            augment(images, given, out_size=1)
        except ValueError as error:
            return str(error)
        return "fine"

    strided = torch.zeros(3, 15)[:, :14].copy_(table)  # which C++ does not judge
    assert verdict(table) == verdict(strided)


def test_augment_takes_crops_in_the_layout_of_crop_and_resize() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    crops = siamfast.crop_and_resize(frame, [[60.0, 45.0], [80.0, 60.0]], [[40.0, 40.0]] * 2, 31)
    draws = no_draws(2, (31, 31))
    expected = siamfast.augment(torch.from_numpy(crops).permute(0, 3, 1, 2), draws, out_size=25)
    torch.testing.assert_close(siamfast.augment(crops, draws, out_size=25), expected, rtol=0, atol=0)
    with pytest.raises(
        ValueError, match=r"images: got an array of uint8, \(2, 31, 31, 1\), expected uint8, \(N, H, W, 3\)"
    ):
        siamfast.augment(crops[..., :1], draws)
