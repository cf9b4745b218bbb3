"""The boxes of pairs from a store surround the target, with any number of workers, and the pairs train."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from siamfast.cli import main
from siamfast.data.pairs import usable_frames
from siamfast.data.store_pairs import StorePairs, is_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences of 30 frames: a white square of 40 pixels on dark noise; curated at 319 pixels."""
    root = tmp_path_factory.mktemp("sequences")
    for name in ("a", "b"):
        (root / name / "img").mkdir(parents=True)
        noise = np.random.default_rng(len(name)).integers(0, 60, (300, 400, 3), np.uint8)
        rows = []
        for t in range(30):
            frame = noise.copy()
            frame[120:160, 150 + t : 190 + t] = 255
            cv2.imwrite(str(root / name / "img" / f"{t:04d}.png"), frame)
            rows.append(f"{150 + t},120,40,40")
        (root / name / "groundtruth.txt").write_text("\n".join(rows))
    out = tmp_path_factory.mktemp("store") / "out"
    assert main(["curate", "folder", str(root), str(out), "--workers", "0", "--instance", "319"]) == 0
    return out


def test_the_box_surrounds_the_target(store: Path) -> None:
    pairs = StorePairs(store, 40, seed=1, max_stretch=0.2)
    moved: list[tuple[float, float]] = []
    sides: list[float] = []
    for index in range(40):
        item = pairs[index]
        assert item["template"].shape == (3, 127, 127)
        assert item["search"].shape == (3, 255, 255)
        for image, box in (("template", "template_box"), ("search", "box")):
            x, y, w, h = item[box].tolist()
            rows, columns = np.nonzero(item[image].numpy().mean(0) > 150)
            np.testing.assert_allclose(
                [columns.min(), columns.max() + 1, rows.min(), rows.max() + 1], [x, x + w, y, y + h], atol=1.6
            )
        moved.append((x + w / 2 - 127.5, y + h / 2 - 127.5))
        sides.append(item["template_box"][2].item())
    assert np.abs(moved).max() <= 32.5
    assert np.std(moved) > 8
    assert abs(np.mean(sides) - 127 / 2) < 4  # s_z = 2 * 40: the square fills half of the template
    assert np.std(sides) > 1  # the windows vary in size


def test_workers_do_not_change_the_pairs(store: Path) -> None:
    pairs = StorePairs(store, 6, seed=2)
    loaded = list(DataLoader(pairs, batch_size=None, num_workers=2))
    for index, item in enumerate(loaded):
        for name, value in pairs[index].items():
            assert torch.equal(item[name], value), (index, name)
    assert not torch.equal(pairs[0]["search"], StorePairs(store, 6, seed=3)[0]["search"])


def test_frames_are_near_and_negatives_come_from_another_video(store: Path) -> None:
    pairs = StorePairs(store, 50, seed=0, max_gap=3, negatives=0.5)
    rng = np.random.default_rng(0)
    drawn = [pairs._frames(rng) for _ in range(100)]
    for frames in drawn:
        assert (pairs.tracks[frames.other].video == pairs.tracks[frames.track].video) == frames.positive
        assert abs(frames.template - frames.search) <= 3 or not frames.positive
    assert 25 < sum(frames.positive for frames in drawn) < 75


def test_the_third_crop_equals_a_crop_of_the_frame(store: Path) -> None:
    """A crop cut from the stored crop of another frame equals the same window of that frame."""
    pairs = StorePairs(store, 20, previous=5)
    for index in range(20):
        item = pairs[index]
        x, y, w, h = item["previous_box"].tolist()
        rows, columns = np.nonzero(item["previous"].numpy().mean(0) > 150)
        np.testing.assert_allclose(
            [columns.min(), columns.max() + 1, rows.min(), rows.max() + 1], [x, x + w, y, y + h], atol=1.6
        )
        frames = abs(x - item["box"][0].item()) / w * 40  # it moves by 1 of 40 pixels per frame
        assert 0.9 < frames < 5.1


def test_unusable_frames_are_left_out() -> None:
    sides = np.array([[40, 40], [10, 40], [40, 600], [30, 200], [220, 200], [40, 40], [np.nan] * 2, [40, 2]], float)
    boxes = np.concatenate([np.zeros((8, 2)), sides], 1)
    visible = np.array([1, 1, 1, 1, 1, 0.05, 1, 1])
    assert usable_frames(boxes, np.array([300, 400]), visible).tolist() == [0]
    assert usable_frames(boxes, np.tile([[300, 400]], (8, 1)), None).tolist() == [0, 5]


def test_a_store_trains_siamfc(store: Path, tmp_path: Path) -> None:
    assert is_store(store)
    words = [
        "train",
        "--data",
        str(store),
        "--out",
        str(tmp_path / "run"),
        "--steps=2",
        "--batch-size=2",
        "--workers=0",
    ]
    assert main([*words, "--val-pairs=2", "--instance=143", "--max-shift=4"]) == 0
    assert (tmp_path / "run" / "siamfc.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exemplar": 111}, "exemplar: got 111, but the store .* has crops of 127 pixels"),
        ({"instance": 400}, "instance: got 400, but the store .* has crops of 319 pixels"),
    ],
)
def test_bad_sides_are_named(store: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StorePairs(store, 1, **options)
