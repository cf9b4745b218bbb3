"""Synthetic video depends on its seed alone, its boxes are exact, and it has hard moments."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from siamfast.data.scene import Scene
from siamfast.data.sprites import Appearance, Sprite, outline
from siamfast.data.synthetic import SyntheticPairs, SyntheticVideo

SIZE = (120, 160)


def test_the_same_seed_gives_the_same_bytes_in_any_order() -> None:
    first, second = SyntheticVideo(5, length=12, size=SIZE), SyntheticVideo(5, length=12, size=SIZE)
    forward = [first.frame(t) for t in range(12)]
    for t in reversed(range(12)):
        np.testing.assert_array_equal(second.frame(t), forward[t])
        np.testing.assert_array_equal(second.box(t), first.box(t))


def test_other_seeds_give_other_videos() -> None:
    frames = [SyntheticVideo(seed, length=2, size=SIZE).frame(0).tobytes() for seed in range(20)]
    assert len(set(frames)) == 20


@pytest.mark.parametrize("seed", range(12))
def test_boxes_are_the_tight_boxes_of_the_silhouette(seed: int) -> None:
    """The target alone, painted white on black, measured to the pixel."""
    video = SyntheticVideo(seed, length=40, size=(240, 320))
    scene = video._scene
    for t in (0, 13, 39):
        x, y, w, h = video.box(t)
        corner = np.array([x - 10, y - 10])
        canvas = np.zeros((int(h) + 21, int(w) + 21, 1), np.float32)
        scene._draw(canvas, scene.target, t, corner, np.ones(2), paint=1.0)
        rows, columns = np.nonzero(canvas[..., 0].max(1) > 0.5)[0], np.nonzero(canvas[..., 0].max(0) > 0.5)[0]
        measured = [columns[0] - 10, rows[0] - 10, columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
        # Whole pixels at both ends, and half a pixel of an enlarged sprite's picture (106 across) at each edge.
        np.testing.assert_allclose(measured, [0, 0, w, h], atol=2 + max(w, h) / 106, err_msg=f"frame {t}")


def _quiet(seed: int) -> SyntheticVideo:
    """A video without sensor noise and coding, so that two renderings differ by resampling alone."""
    video = SyntheticVideo(seed, length=10, size=(240, 320))
    video._scene.noise, video._scene.jpeg, video._scene.blurs, video._scene.defocus = 0.0, False, False, 0.0
    return video


@pytest.mark.parametrize("seed", range(6))
def test_a_window_is_the_crop_of_its_frame(seed: int) -> None:
    video = _quiet(seed)
    frame = video.frame(3).astype(float)
    window = video.window(3, (150, 110), 128, 64).astype(float)
    crop = cv2.resize(frame[46:174, 86:214], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(window - crop).mean() < 6  # textures alias a little differently; a shift of a pixel costs more
    shifted = cv2.resize(frame[54:182, 94:222], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(window - crop).mean() < 0.7 * np.abs(window - shifted).mean()


def test_outside_the_frame_a_window_shows_the_mean_color() -> None:
    video = _quiet(2)
    window = video.window(0, (-100, -100), 100, 20)
    assert (window == window[0, 0]).all()
    np.testing.assert_allclose(window[0, 0], video.frame(0).mean((0, 1)), atol=4)


def test_occlusion_and_leaving_the_view_occur_and_so_do_clear_views() -> None:
    visible = [SyntheticVideo(seed, length=60, size=SIZE).visible(t) for seed in range(40) for t in (0, 30, 59)]
    assert all(0 <= v <= 1.001 for v in visible)
    assert sum(v > 0.99 for v in visible) > 40
    assert sum(v < 0.5 for v in visible) > 3


def test_targets_move_turn_and_change_size() -> None:
    videos = [SyntheticVideo(seed, length=60, size=SIZE) for seed in range(20)]
    first, last = (np.stack([v.box(t) for v in videos]) for t in (0, 59))
    assert np.median(np.abs(first[:, :2] - last[:, :2])) > 3
    assert np.median(np.abs(np.log(last[:, 2:] / first[:, 2:]))) > 0.03


def test_pairs_have_the_documented_shapes_and_places() -> None:
    pairs = SyntheticPairs(48, seed=1, exemplar=127, instance=191, max_shift=24)
    for index in range(48):
        item = pairs[index]
        assert item["template"].shape == (3, 127, 127)
        assert item["search"].shape == (3, 191, 191)
        assert item["template"].dtype == item["search"].dtype == torch.uint8
        center = item["box"][:2] + item["box"][2:] / 2
        assert (center - 191 / 2).abs().max() <= 24 + 1e-3
        # s_z is 127 crop pixels: the area of the box with its context, whatever its shape.
        w, h = item["box"][2:].tolist()
        assert np.sqrt((w + (w + h) / 2) * (h + (w + h) / 2)) == pytest.approx(127, rel=0.09)
        assert item["positive"]


@pytest.mark.parametrize("workers", [1, 3])
def test_items_do_not_depend_on_the_number_of_workers(workers: int) -> None:
    pairs = SyntheticPairs(12, seed=4, instance=127)
    expected = torch.stack([pairs[i]["search"] for i in range(12)])
    batches = [batch["search"] for batch in DataLoader(pairs, 2, num_workers=workers)]
    assert torch.equal(expected, torch.cat(batches))


@pytest.mark.parametrize("seed", range(4))
def test_a_scene_without_its_target_differs_only_there(seed: int) -> None:
    video = _quiet(seed)
    scene, window = video._scene, (0.0, 0.0, 320.0, 240.0)
    with_target, without = (scene.render(5, window, (240, 320), with_target=w).astype(int) for w in (True, False))
    x, y, w, h = video.box(5)
    changed = np.abs(with_target - without).max(2) > 0
    assert changed.any()
    edge = 2 + round(2 * max(w, h) / 106)  # a pixel of a sprite's picture, 106 across, is spread over two of its own
    changed[max(0, int(y) - edge) : int(y + h) + edge + 1, max(0, int(x) - edge) : int(x + w) + edge + 1] = False
    assert not changed.any()


def test_half_of_the_negatives_are_the_same_scene_without_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bool] = []
    render = Scene.render

    def spied(scene: Scene, *arguments: Any, with_target: bool = True) -> NDArray[np.uint8]:
        shown.append(with_target)
        return render(scene, *arguments, with_target=with_target)

    monkeypatch.setattr(Scene, "render", spied)
    pairs = SyntheticPairs(60, seed=0, instance=127, negatives=1.0)
    assert not any(bool(pairs[i]["positive"]) for i in range(60))
    assert all(shown[::2])  # templates
    assert 15 < sum(shown[1::2]) < 45


def test_negative_pairs_occur_at_their_share() -> None:
    pairs = SyntheticPairs(60, seed=0, instance=127, negatives=0.5)
    positives = sum(bool(pairs[i]["positive"]) for i in range(60))
    assert 15 < positives < 45


def test_the_third_crop_is_near_in_time_with_the_search_crops_window() -> None:
    """Backgrounds of neighboring frames in the same window differ less than those of any two items; targets move, but
    not far."""
    pairs = SyntheticPairs(24, seed=3, instance=127, previous=2, first_frames=0.5)
    moved, near, far = [], [], []
    for index in range(24):
        item, other = pairs[index], pairs[(index + 9) % 24]
        middles = [item[name][:2] + item[name][2:] / 2 for name in ("box", "previous_box")]
        moved.append(float((middles[0] - middles[1]).norm()))
        near.append(float((item["search"].float() - item["previous"].float()).abs().mean()))
        far.append(float((item["search"].float() - other["previous"].float()).abs().mean()))
    assert np.median(moved) < 20
    assert max(moved) > 1
    assert np.median(near) < 0.7 * np.median(far)


def test_seeds_of_pairs_share_no_crop() -> None:
    one, other = (SyntheticPairs(6, seed=seed, instance=127)[0]["template"] for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SyntheticVideo(-1), ValueError, "seed: got -1, expected 0 or more"),
        (lambda: SyntheticVideo(1.5), TypeError, "seed: got 1.5, expected a whole number"),
        (lambda: SyntheticVideo(0, length=0), ValueError, "length: got 0, expected 1 or more"),
        (lambda: SyntheticVideo(0, size=100), TypeError, "size: got 100, expected"),
        (lambda: SyntheticVideo(0, length=2, size=SIZE).frame(2), IndexError, "t: got 2, expected 0 to 1"),
        (lambda: SyntheticVideo(0, length=2, size=SIZE).window(0, (1, 1), 0, 5), ValueError, "size: got 0, expected"),
        (lambda: SyntheticPairs(5)[5], IndexError, "index: got 5, expected 0 to 4"),
        (lambda: SyntheticPairs(5, negatives=2), ValueError, "negatives: got 2, expected a share"),
        (lambda: SyntheticPairs(5, first_frames=-1), ValueError, "first_frames: got -1, expected a share"),
        (lambda: SyntheticPairs(5, previous=-1), ValueError, "previous: got -1, expected 0 or more"),
        (lambda: SyntheticPairs(5, max_shift=-1), ValueError, "max_shift: got -1"),
        (lambda: SyntheticPairs(5, exemplar=0), ValueError, "exemplar: got 0"),
    ],
)
def test_bad_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_sprite_is_drawn_on_a_canvas_of_any_strides() -> None:
    rng = np.random.default_rng(0)
    sprite = Sprite(rng, outline(rng, 1.0), Appearance.draw(rng))
    drawn = []
    for canvas in (np.zeros((40, 50, 3), np.float32), np.zeros((40, 100, 4), np.float32)[:, ::2, :3]):
        sprite.draw(canvas, np.eye(2) * 15, np.array([20.0, 25.0]))
        drawn.append(canvas)
    assert drawn[0].any()
    np.testing.assert_array_equal(*drawn)
