"""Augmentation keeps shapes and ranges, repeats under a seed, and its shares are what was asked for."""

from __future__ import annotations

import torch

from siamfast.data.augmentation import augment_pair


def _pair(count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (count, 3, 24, 24), (count, 3, 40, 40)
    return tuple(torch.randint(0, 256, s, generator=generator, dtype=torch.uint8) for s in shapes)  # type: ignore[return-value]


def test_nothing_asked_for_changes_nothing() -> None:
    pair = _pair()
    out = augment_pair(*pair, torch.Generator().manual_seed(1), color_jitter=0, gray=0, blur=0)
    for before, after in zip(pair, out, strict=True):
        torch.testing.assert_close(after, before.float(), atol=1e-3, rtol=0)


def test_the_same_generator_draws_the_same() -> None:
    first, second = (augment_pair(*_pair(), torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_values_stay_in_range_and_memory_format_stays() -> None:
    z, x = (t.contiguous(memory_format=torch.channels_last) for t in _pair())
    for out in augment_pair(z, x, torch.Generator().manual_seed(2), color_jitter=0.5):
        assert out.min() >= 0
        assert out.max() <= 255
        assert out.is_contiguous(memory_format=torch.channels_last)


def test_gray_takes_both_crops_of_a_pair_or_neither() -> None:
    z, x = augment_pair(*_pair(), torch.Generator().manual_seed(3), color_jitter=0.2, gray=0.5, blur=0)
    colored = [(t.amax(1) - t.amin(1)).amax((1, 2)) > 1 for t in (z, x)]
    assert torch.equal(*colored)
    assert 16 < int(colored[0].sum()) < 48


def test_blur_smooths_its_share_of_the_crops() -> None:
    z, _ = _pair()
    out, _ = augment_pair(z, z, torch.Generator().manual_seed(4), color_jitter=0, gray=0, blur=0.5)
    rough = [t.float().diff(dim=3).abs().mean((1, 2, 3)) for t in (z, out)]
    smoothed = rough[1] < 0.9 * rough[0]
    assert 16 < int(smoothed.sum()) < 48
    torch.testing.assert_close(out[~smoothed], z[~smoothed].float(), atol=1e-3, rtol=0)
