"""`siamfast track` with several targets: rows by id, targets that start late, end, or cannot be tracked."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import siamfast
from siamfast.cli import main
from siamfast.data.synthetic import SyntheticVideo
from siamfast.io.frames import Frames
from siamfast.io.images import Image
from siamfast.io.video import open_frames
from siamfast.tracking.course import Change, Course
from siamfast.tracking.multi import MultiTracker

LENGTH = 8
ON_CPU = ("--device", "cpu")  # in bfloat16 on a GPU, boxes and what is lost depend on the other targets a little


class Gray(Frames):
    """A thousand gray frames."""

    given = 0

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        for index in range(1000):
            self.given = index + 1
            yield index, np.full((120, 160, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    video, folder = SyntheticVideo(21, length=LENGTH, size=(120, 160)), tmp_path_factory.mktemp("clip")
    for t in range(LENGTH):
        cv2.imwrite(str(folder / f"{t:04d}.png"), video.frame(t)[..., ::-1])
    return folder


def rows_of(path: Path) -> dict[tuple[int, int], list[float]]:
    with path.open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["frame", "id", "x", "y", "w", "h", "confidence", "lost"]
    names = ("x", "y", "w", "h", "confidence", "lost")
    return {(int(row["frame"]), int(row["id"])): [float(row[name]) for name in names] for row in table}


def test_boxes_given_again_are_several_targets(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "several.csv"
    words = ["track", str(clip), *ON_CPU, "--box=20,30,30,30", "--box", "80,40,40,30", "--csv", str(out)]
    assert main([*words, "--out", str(tmp_path / "several.mp4")]) == 0
    rows = rows_of(out)
    assert set(rows) == {(t, target) for t in range(LENGTH) for target in (1, 2)}
    alone = tmp_path / "alone.csv"
    assert main(["track", str(clip), *ON_CPU, "--box=80,40,40,30", "--csv", str(alone)]) == 0
    lines = alone.read_text().splitlines()[1:]
    for t, line in enumerate(lines):
        assert [float(number) for number in line.split(",")][1:] == pytest.approx(rows[t, 2], abs=0.02)
    assert "8 frames, 2 targets" in capsys.readouterr().err
    with open_frames(str(tmp_path / "several.mp4")) as frames:
        assert sum(1 for _ in frames) == LENGTH


def test_targets_of_a_file_start_and_end_at_their_frames(clip: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "targets.csv", tmp_path / "out.csv"
    file.write_text("frame,id,x,y,w,h\n0,7,20,30,30,30\n2,3,80,40,40,30\n4,7,0,0,0,0\n6,7,10,10,30,30\n7,3,1,2,3,4\n")
    assert main(["track", str(clip), *ON_CPU, "--boxes", str(file), "--csv", str(out)]) == 0
    rows = rows_of(out)
    assert set(rows) == {(t, 7) for t in (0, 1, 2, 3, 6, 7)} | {(t, 3) for t in range(2, LENGTH)}
    assert rows[2, 3] == [80, 40, 40, 30, 1, 0]
    assert rows[6, 7] == [10, 10, 30, 30, 1, 0]
    assert rows[7, 3][:4] != [1, 2, 3, 4]  # later boxes of a target that is tracked do not move it
    again = tmp_path / "again.csv"  # the output is such a file as well
    assert main(["track", str(clip), *ON_CPU, "--boxes", str(out), "--csv", str(again)]) == 0
    assert rows_of(again)[7, 3] == pytest.approx(rows[7, 3], abs=0.02)


def test_a_target_that_cannot_be_tracked_leaves_the_others(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "targets.csv", tmp_path / "out.csv"
    file.write_text("frame,id,x,y,w,h\n0,1,20,30,30,30\n1,2,500,40,40,30\n99,3,10,10,20,20\n")
    assert main(["track", str(clip), "--boxes", str(file), "--csv", str(out)]) == 1
    assert set(rows_of(out)) == {(t, 1) for t in range(LENGTH)}
    lines = capsys.readouterr().err.splitlines()
    assert (
        "siamfast track: target 2, frame 1: box: got 500,40,40,30, which is outside the image of 160 x 120 pixels"
        in lines
    )
    assert "siamfast track: target 3: starts at frame 99, after the last one" in lines
    out.unlink()
    file.write_text("frame,id,x,y,w,h\n1,2,500,40,40,30\n")
    assert main(["track", str(clip), "--boxes", str(file), "--csv", str(out)]) == 2
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--box=1,2,30,40", "--boxes", "x.csv"], "--boxes: got --box as well"),
        (["--boxes", "missing.csv"], "missing.csv: no such file"),
        (["--box=1,2,30,40", "--box=9,9,30,40", "--model", "siamfc"], "--model: got siamfc, expected mobile"),
        (["--box=1,2,30,40", "--box=9,9,30,40", "--response", "--out", "o.mp4"], "--response: shows the map of one"),
        (["--box=1,2,30,40", "--box=9,9,30"], "--box: got '9,9,30', expected four numbers"),
    ],
)
def test_bad_options_are_named(
    clip: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["track", str(clip), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("boxes", [["--box=20,30,30,30"], ["--box=20,30,30,30", "--box=80,40,40,30"]])
def test_the_rows_say_where_a_target_is_lost(boxes: list[str], clip: Path, tmp_path: Path) -> None:
    gray, out = tmp_path / "gray", tmp_path / "out.csv"
    shutil.copytree(clip, gray)
    for path in sorted(gray.iterdir())[4:]:
        image = cv2.imread(str(path))
        assert image is not None
        cv2.imwrite(str(path), np.full_like(image, 128))
    assert main(["track", str(gray), *ON_CPU, *boxes, "--csv", str(out)]) == 0
    with out.open() as file:
        lost = {(int(row["frame"]), row.get("id", "1")): row["lost"] for row in csv.DictReader(file)}
    targets = [str(number) for number in range(1, len(boxes) + 1)]
    assert {place: int(place[0] >= 4) for place in ((t, n) for t in range(LENGTH) for n in targets)} == {
        place: int(text) for place, text in lost.items()
    }


def test_of_two_boxes_of_a_target_in_a_frame_the_first_counts_and_a_line_says_so(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "targets.csv", tmp_path / "o.csv"
    file.write_text("frame,id,x,y,w,h\n0,1,20,30,30,30\n0,1,80,40,40,30\n0,2,60,40,30,30\n")
    assert main(["track", str(clip), "--boxes", str(file), "--csv", str(out)]) == 1
    assert f"{file}: target 1 has two boxes at frame 0" in capsys.readouterr().err
    first = out.read_text().splitlines()[1:3]
    assert [row.split(",")[:3] for row in first] == [["0", "1", "20.00"], ["0", "2", "60.00"]]


def test_a_boxes_file_that_is_an_output_is_refused(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "targets.csv"
    file.write_text(text := "frame,id,x,y,w,h\n0,1,20,30,30,30\n")
    assert main(["track", str(clip), "--boxes", str(file), "--csv", str(file)]) == 2
    assert f"--csv: {file} is an input" in capsys.readouterr().err
    assert file.read_text() == text


@pytest.mark.parametrize("command", ["track", "annotate"])
def test_a_pipe_or_a_device_is_not_replaced_by_a_file(
    command: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "k.csv").write_text("frame,id,x,y,w,h\n0,1,20,30,30,30\n")
    os.mkfifo(tmp_path / "pipe.csv")
    given = {"track": ("--boxes", "--csv"), "annotate": ("--keyframes", "--out")}[command]
    assert main([command, str(clip), given[0], str(tmp_path / "k.csv"), given[1], str(tmp_path / "pipe.csv")]) == 2
    assert f"{given[1]}: {tmp_path / 'pipe.csv'} is a device or a pipe" in capsys.readouterr().err
    assert (tmp_path / "pipe.csv").is_fifo()


def test_frames_are_not_read_on_when_no_target_can_be_tracked() -> None:
    course = Course(MultiTracker(), [Change(0, 1, (500, 0, 9, 9)), Change(1, 2, (0, 500, 9, 9)), Change(2, 2, None)])
    images = Gray()
    with pytest.raises(ValueError, match=r"target 1, frame 0: .*; target 2, frame 1: "):
        list(course.follow(images))
    assert images.given == 2


def test_a_target_that_the_user_draws_has_a_number_of_its_own() -> None:
    course = Course(MultiTracker(), [Change(0, 1, (20, 30, 30, 30)), Change(2, 2, (80, 40, 40, 30))])
    for index, image, tracks in course.follow(Gray()):
        if index == 0:
            course.select(image, (50, 50, 30, 30))
        if index == 2:
            assert set(tracks) == {1, 2, 3}
            assert tracks[2].box == (80, 40, 40, 30)
            break
    assert not course.problems


def test_the_packaged_tracker_serves_several() -> None:
    assert siamfast.MultiTracker().precision == siamfast.MobileTracker().precision
