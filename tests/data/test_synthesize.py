"""`siamfast synthesize`: clips that eval reads, that are never overwritten, and that hide their target when asked."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamfast.cli import main
from siamfast.data import clip_folder
from siamfast.data.clip_folder import RECORD, Settings, hides, next_seed, write_clip
from siamfast.data.sequences import read_sequences
from siamfast.data.sprites import Appearance
from siamfast.data.synthetic import SyntheticVideo
from siamfast.io.masks import read_mask

SIZE = (96, 128)


def synthesize(out: Path, *words: str) -> int:
    return main(["synthesize", str(out), "--size", "96x128", "--length", "4", *words])


def seeds(out: Path) -> list[int]:
    return json.loads((out / RECORD).read_text())["seeds"]


def stamps(out: Path) -> dict[str, int]:
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.rglob("*.*") if path.is_file()}


def test_clips_are_read_back_as_rendered(tmp_path: Path) -> None:
    assert synthesize(tmp_path / "out", "--clips", "2", "--masks") == 0
    sequences = read_sequences(tmp_path / "out")
    assert [sequence.name for sequence in sequences] == ["clip-000", "clip-001"]
    for sequence, seed in zip(sequences, seeds(tmp_path / "out"), strict=True):
        video = SyntheticVideo(seed, length=4, size=SIZE)
        assert [path.name for path in sequence.frames] == [f"{t:08d}.jpg" for t in (1, 2, 3, 4)]
        for t, path in enumerate(sequence.frames):
            image = cv2.imread(str(path))[..., ::-1]
            # At quality 95 the noisiest frames are about 2 gray levels off; another frame or BGR would be far more.
            assert np.abs(image.astype(int) - video.frame(t)).mean() < 4
            mask = read_mask(path.parent.parent / "masks" / f"{t + 1:08d}.png").numbers
            np.testing.assert_array_equal(mask, video.mask(t))
            if video.visible(t) >= 0.05:
                np.testing.assert_allclose(sequence.boxes[t], video.box(t), atol=1e-3)


def test_eval_reads_the_clips(tmp_path: Path) -> None:
    assert synthesize(tmp_path / "out", "--clips", "1") == 0
    assert main(["eval", str(tmp_path / "out"), "--dataset", "folder", "--out", str(tmp_path / "eval")]) == 0


class Hiding(SyntheticVideo):
    """The target is absent in the third frame."""

    def visible(self, t: int) -> float:
        return (1.0, 0.05, 0.049, 1.0)[t]


def test_a_target_less_than_a_twentieth_visible_has_no_box(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip", Hiding(0, length=4, size=SIZE))
    (sequence,) = read_sequences(tmp_path / "clip")
    assert np.isnan(sequence.boxes).all(axis=1).tolist() == [False, False, True, False]


def test_an_interrupted_command_resumes_and_keeps_finished_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert synthesize(whole, "--clips", "3") == 0
    real, frames = clip_folder._write_jpeg, []

    def stopping(path: Path, image: np.ndarray) -> None:
        if len(frames) == 6:
            raise KeyboardInterrupt
        frames.append(path)
        real(path, image)

    monkeypatch.setattr(clip_folder, "_write_jpeg", stopping)
    assert synthesize(out, "--clips", "2") == 130
    assert [sequence.name for sequence in read_sequences(out)] == ["clip-000"]
    before = {name: stamp for name, stamp in stamps(out).items() if name != RECORD}
    monkeypatch.setattr(clip_folder, "_write_jpeg", real)
    assert synthesize(out, "--clips", "2") == 0
    assert synthesize(out, "--clips", "3") == 0  # more clips are not another setting
    assert synthesize(out, "--clips", "1") == 0  # fewer clips remove none
    assert before.items() <= stamps(out).items()
    for path in whole.rglob("*.*"):
        assert (out / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert stamps(out).keys() == stamps(whole).keys()


@pytest.mark.parametrize("words", [["--seed", "1"], ["--length", "5"], ["--size", "96x96"], ["--masks"]])
def test_clips_of_other_settings_are_never_mixed(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert synthesize(out, "--clips", "1") == 0
    before = stamps(out)
    capsys.readouterr()
    assert synthesize(out, "--clips", "1", *words) == 2
    message = capsys.readouterr().err
    assert message.startswith("siamfast synthesize: error: OUT:")
    assert message.count("\n") == 1
    assert stamps(out) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert synthesize(tmp_path, "--clips", "1") == 2
    assert synthesize(tmp_path / "mine.txt", "--clips", "1") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ([1] * 5 + [0] * 10 + [1], True),
        ([1] * 5 + [0] * 9 + [1], False),
        ([1] + [0] * 100 + [1], True),
        ([1] + [0] * 101 + [1], False),
        ([1] * 5 + [0] * 50, False),
        ([1] * 50, False),
        ([1] + [0] * 3 + [1] + [0] * 12 + [0.05], True),
        ([1] + [0] * 5 + [0.06] + [0] * 5 + [1], False),
    ],
)
def test_a_target_hides_if_it_is_absent_for_10_to_100_frames(visible: list[float], expected: bool) -> None:
    assert hides(visible) is expected


def test_next_seed_skips_to_a_target_that_is_visible_and_then_hides() -> None:
    """At 150 frames the first such seed is 17; earlier seeds hide for good, not at all or from the start."""
    settings = Settings(0, 150, (360, 480), masks=False, hides=True)
    next_hiding = next_seed(settings, 14)
    visible = list(map(settings.video(next_hiding).visible, range(150)))
    assert visible[0] >= 0.9
    assert hides(visible)
    for seed in range(14, next_hiding):
        passed = list(map(settings.video(seed).visible, range(150)))
        assert passed[0] < 0.9 or not hides(passed)


def test_a_hiding_target_has_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    def near(look: Appearance, rng: np.random.Generator) -> Appearance:
        raise AssertionError("a copy")

    monkeypatch.setattr(Appearance, "near", near)
    list(map(Settings(0, 30, SIZE, masks=False, hides=True).video, range(8)))
    with pytest.raises(AssertionError, match="a copy"):
        list(map(Settings(0, 30, SIZE, masks=False, hides=False).video, range(8)))


def test_the_search_for_a_seed_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_folder, "_PATIENCE", 3)
    with pytest.raises(ValueError, match="no clip of 12 frames suits, with the seeds 0 to 2"):
        next_seed(Settings(0, 12, SIZE, masks=False, hides=True), 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--clips", "0"], "--clips: got 0, expected 1 or more"),
        (["--length", "1"], "--length: got 1, expected 2"),
        (["--hides", "--length", "11"], "--length: got 11, expected 12"),
        (["--seed", "-1"], "--seed: got -1"),
        (["--size", "360"], "--size: got '360', expected HEIGHTxWIDTH"),
        (["--size", "8x480"], "--size: got 8"),
    ],
)
def test_bad_options_are_named_before_anything_is_written(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthesize(tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
