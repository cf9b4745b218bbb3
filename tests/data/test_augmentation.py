"""Drawn augmentation repeats under a seed, its shares are what was asked for, and boxes go where their pixels go."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siamfast.data.augmentation import augment_boxes, augment_pair, draw_augmentation
from siamfast.ops.augment import augment

NOTHING: dict[str, Any] = {"color_jitter": 0, "gray": 0, "blur": 0}


def _pair(count: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (count, 3, 24, 24), (count, 3, 40, 40)
    z, x = (torch.randint(0, 256, s, generator=generator, dtype=torch.uint8) for s in shapes)
    return z, x, torch.tensor([[10.0, 12.0, 8.0, 6.0]]).repeat(count, 1)


def test_default_options_change_nothing() -> None:
    pair = _pair()
    for before, after in zip(pair, augment_pair(*pair, torch.Generator().manual_seed(1), **NOTHING), strict=True):
        torch.testing.assert_close(after, before.float(), atol=1e-3, rtol=0)


def test_equal_generators_draw_equal_augmentations() -> None:
    options: dict[str, Any] = {"flip": 0.5, "noise": 5, "cutout": 0.5}
    first, second = (augment_pair(*_pair(), torch.Generator().manual_seed(7), **options) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_values_stay_in_range() -> None:
    for out in augment_pair(*_pair(), torch.Generator().manual_seed(2), color_jitter=0.5, noise=30)[:2]:
        assert out.min() >= 0
        assert out.max() <= 255
        assert out.is_contiguous(memory_format=torch.channels_last)


def test_gray_applies_to_both_crops_of_a_pair_or_neither() -> None:
    z, x, _ = augment_pair(*_pair(), torch.Generator().manual_seed(3), color_jitter=0.2, gray=0.5, blur=0)
    colored = [(t.amax(1) - t.amin(1)).amax((1, 2)) > 1 for t in (z, x)]
    assert torch.equal(*colored)
    assert 16 < int(colored[0].sum()) < 48


def test_flip_mirrors_both_crops_of_a_pair_and_the_box() -> None:
    pair = _pair()
    z, x, box = augment_pair(*pair, torch.Generator().manual_seed(5), flip=0.5, **NOTHING)
    mirrored = [(after == before.flip(3)).all(3).all(2).all(1) for before, after in zip(pair[:2], (z, x), strict=True)]
    assert torch.equal(*mirrored)
    assert 16 < int(mirrored[0].sum()) < 48
    assert torch.equal(box[mirrored[0]], torch.tensor([22.0, 12.0, 8.0, 6.0]).expand(int(mirrored[0].sum()), 4))
    assert torch.equal(box[~mirrored[0]], pair[2][~mirrored[0]])


def test_blur_smooths_its_share_of_the_crops() -> None:
    z, _, box = _pair()
    out, _, _ = augment_pair(z, z, box, torch.Generator().manual_seed(4), color_jitter=0, gray=0, blur=0.5)
    rough = [t.float().diff(dim=3).abs().mean((1, 2, 3)) for t in (z, out)]
    smoothed = rough[1] < 0.9 * rough[0]
    assert 16 < int(smoothed.sum()) < 48
    torch.testing.assert_close(out[~smoothed], z[~smoothed].float(), atol=1e-3, rtol=0)


def test_cutouts_affect_search_crops_alone_at_their_share() -> None:
    z, x, box = _pair()
    first, second, _ = augment_pair(z, x, box, torch.Generator().manual_seed(6), cutout=0.5, **NOTHING)
    assert torch.equal(first, z.float())
    changed = (second != x).any(1).flatten(1).float().mean(1)
    assert 16 < int((changed > 0).sum()) < 48
    assert float(changed[changed > 0].min()) > 0.01 * 0.5
    assert float(changed.max()) <= 0.41**2


def test_a_shift_from_255_to_239_pixels_never_leaves_the_crop() -> None:
    table = draw_augmentation(500, (255, 255), torch.Generator().manual_seed(0), out_size=(239, 239), shift=8)
    ends = table[:, :2, None] + torch.tensor([-119.0, 119.0])
    assert float(ends.min()) >= 0
    assert float(ends.max()) <= 254
    assert float((table[:, :2] - 127).abs().max()) > 7.5


@settings(max_examples=60)
@given(st.integers(0, 2**31))
def test_a_box_goes_where_its_pixels_go(seed: int) -> None:
    """A white rectangle on black: the moments of the white area after augmentation are those of the moved box."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(1, 3, 150, 170, dtype=torch.uint8)  # so large that its border is never visible
    images[..., 65:87, 75:96] = 255
    table = draw_augmentation(1, (150, 170), generator, out_size=(70, 90), shift=9, stretch=0.3, flip=0.5)
    table[:, 3] *= float(0.9 + 0.2 * torch.rand((), generator=generator))
    out = augment(images, table, out_size=(70, 90))[0, 0].double() / 255
    x, y, w, h = augment_boxes(torch.tensor([[75.0, 65.0, 21.0, 22.0]]), table, (70, 90))[0].tolist()
    mass = float(out.sum())
    assert mass == pytest.approx(w * h, rel=0.03)  # bilinear edges where a step is no whole number
    assert float((out.sum(0) * (torch.arange(90) + 0.5)).sum()) / mass == pytest.approx(x + w / 2, abs=0.15)
    assert float((out.sum(1) * (torch.arange(70) + 0.5)).sum()) / mass == pytest.approx(y + h / 2, abs=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": 2}, "flip: got 2"),
        ({"gray": -0.1}, "gray: got -0.1"),
        ({"blur": 1.5}, "blur: got 1.5"),
        ({"color_jitter": 3}, "color_jitter: got 3"),
        ({"stretch": 1}, "stretch: got 1"),
        ({"noise": float("nan")}, "noise: got nan"),
        ({"flip": torch.zeros(3)}, "flip: got"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_augmentation(4, (20, 20), torch.Generator(), **options)
