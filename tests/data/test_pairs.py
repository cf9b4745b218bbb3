"""Sequences are read in all common spellings; the boxes of their pairs surround the target."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from siamfast.data.sequence_pairs import SequencePairs
from siamfast.data.sequences import read_sequence, read_sequences
from siamfast.data.unread import unread_frames


def write_sequence(folder: Path, frames: int = 12, *, rows: list[str] | None = None, seed: int = 0) -> Path:
    """Write frames of noise with a white square that moves 3 px per frame, and its ground truth or the given rows."""
    (folder / "img").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 60, (100, 140, 3), dtype=np.uint8)
    boxes = []
    for t in range(frames):
        frame = noise.copy()
        frame[30:50, 40 + 3 * t : 60 + 3 * t] = 255
        cv2.imwrite(str(folder / "img" / f"{t + 1:08d}.png"), frame)
        boxes.append(f"{40 + 3 * t},30,20,20")
    (folder / "groundtruth.txt").write_text("\n".join(rows or boxes) + "\n")
    return folder


@pytest.mark.parametrize("separator", [",", "\t", " ", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_separator_and_line_end_is_read(tmp_path: Path, separator: str, end: str) -> None:
    folder = write_sequence(tmp_path / "a", 3)
    rows = [separator.join(["1", "2.5", "30", "4e1"]), separator.join(["nan"] * 4), separator.join("5678")]
    (folder / "groundtruth.txt").write_bytes((end.join(rows) + end).encode())
    sequence = read_sequence(folder)
    np.testing.assert_array_equal(sequence.boxes, [[1, 2.5, 30, 40], [np.nan] * 4, [5, 6, 7, 8]])
    assert [p.name for p in sequence.frames] == ["00000001.png", "00000002.png", "00000003.png"]


def test_a_malformed_row_is_named_with_its_line(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "a", 3, rows=["1,2,3,4", "1,2,x,4", "1,2,3,4"])
    with pytest.raises(ValueError, match="2"):
        read_sequence(folder)


def test_a_wrong_number_of_rows_is_an_error(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "a", 3, rows=["1,2,3,4"])
    with pytest.raises(ValueError, match="1 .*3|3 .*1"):
        read_sequence(folder)


def test_a_folder_without_sequences_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="groundtruth"):
        read_sequences(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_sequences(tmp_path / "nowhere")


def test_the_box_of_a_pair_surrounds_the_target(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a")
    pairs = SequencePairs(tmp_path, 30, instance=191, max_shift=20)
    for index in range(30):
        item = pairs[index]
        assert item["template"].shape == (3, 127, 127)
        white = (item["search"].float().mean(0) > 150).nonzero().float()
        center = white.mean(0).flip(0) + 0.5
        expected = item["box"][:2] + item["box"][2:] / 2
        assert (center - expected).abs().max() < 2.5, index
        assert (expected - 191 / 2).abs().max() <= 20 + 1e-3


def test_pairs_depend_on_seed_and_index_alone(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a")
    first, second = SequencePairs(tmp_path, 9, seed=3), SequencePairs(tmp_path, 9, seed=3)
    assert torch.equal(first[7]["search"], second[7]["search"])
    assert not torch.equal(first[7]["search"], SequencePairs(tmp_path, 9, seed=4)[7]["search"])


def test_frames_are_at_most_max_gap_apart(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", 12)
    pairs = SequencePairs(tmp_path, 40, max_gap=2, previous=1)
    rng = np.random.default_rng(0)
    drawn = [pairs._frames(rng) for _ in range(80)]
    assert {abs(f.template - f.search) for f in drawn} == {1, 2}
    assert {abs(f.previous - f.search) for f in drawn} == {1}
    assert {f.template for f in drawn} == set(range(12))
    assert all(f.positive and f.other == f.track for f in drawn)


def test_the_third_crop_has_the_search_crops_window(tmp_path: Path) -> None:
    """In the same window an earlier frame shows the square at its box and the same noise around it."""
    write_sequence(tmp_path / "a")
    pairs = SequencePairs(tmp_path, 20, instance=191, previous=3)
    for index in range(20):
        item = pairs[index]
        middles = []
        for image, box in (("search", "box"), ("previous", "previous_box")):
            white = (item[image].float().mean(0) > 150).nonzero().float()
            middles.append(white.mean(0).flip(0) + 0.5)
            assert (middles[-1] - item[box][:2] - item[box][2:] / 2).abs().max() < 2.5, index
        moved = (
            float((middles[0] - middles[1])[0]) / float(item["box"][2]) * 20 / 3
        )  # in frames: 3 px per frame, and the box is 20 px wide
        assert 0.7 < abs(moved) < 3.3
        assert item["box"][2] == item["previous_box"][2]


def test_the_third_frame_may_be_the_templates(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", 12)
    pairs = SequencePairs(tmp_path, 40, previous=3, first_frames=1.0)
    rng = np.random.default_rng(0)
    for _ in range(50):
        frames = pairs._frames(rng)
        assert frames.previous == frames.template
        assert 1 <= abs(frames.search - frames.template) <= 3


def test_unusable_frames_are_left_out_by_default(tmp_path: Path) -> None:
    rows = ["55,30,20,20"] * 6 + ["55,30,19,20"] * 6
    write_sequence(tmp_path / "a", 12, rows=rows)
    assert SequencePairs(tmp_path, 10).tracks[0].usable.tolist() == list(range(6))
    assert SequencePairs(tmp_path, 10, filter=False).tracks[0].usable.tolist() == list(range(12))


def test_any_layout_is_read(tmp_path: Path) -> None:
    """OTB counts from 1."""
    folder = write_sequence(tmp_path / "a", 12)
    rows = [f"{41 + 3 * t},31,20,20" for t in range(12)]
    (folder / "groundtruth.txt").unlink()
    (folder / "groundtruth_rect.txt").write_text("\n".join(rows))
    np.testing.assert_array_equal(SequencePairs(tmp_path, 3, kind="otb").tracks[0].boxes[:, 0], 40 + 3 * np.arange(12))


def test_absent_targets_are_never_drawn(tmp_path: Path) -> None:
    rows = ["nan,nan,nan,nan"] * 5 + ["55,30,20,20"] + ["0,0,0,0"] * 6
    write_sequence(tmp_path / "a", 12, rows=rows)
    pairs = SequencePairs(tmp_path, 10, max_shift=0, max_stretch=0)
    # Only frame 5 is left, whose crop is the same every time but for the template's jitter.
    assert all(torch.equal(pairs[i]["search"], pairs[0]["search"]) for i in range(10))


def test_a_sequence_without_a_target_is_an_error(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", 2, rows=["nan,nan,nan,nan"] * 2)
    with pytest.raises(ValueError, match="no track with a frame to train on"):
        SequencePairs(tmp_path, 10)


def test_negatives_come_from_another_sequence(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", seed=0)
    write_sequence(tmp_path / "b", seed=1)
    pairs = SequencePairs(tmp_path, 40, negatives=1.0)
    assert not any(bool(pairs[i]["positive"]) for i in range(5))


def test_damaged_frames_are_skipped_and_all_damaged_is_an_error(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "a", 12)
    images = sorted((folder / "img").iterdir())
    for path in images[::2]:
        path.write_bytes(b"not an image")
    pairs = SequencePairs(tmp_path, 10)
    assert all(pairs[i]["search"].shape == (3, 255, 255) for i in range(10))
    assert unread_frames(pairs) > 0
    for path in images:
        path.write_bytes(b"not an image")
    with pytest.raises(ValueError, match="could not be decoded"):
        SequencePairs(tmp_path, 10)[0]
