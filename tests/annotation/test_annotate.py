"""`siamfast annotate`: boxes between keys, targets that end and come back, keys that cannot be used, the review."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamfast.annotation import between
from siamfast.annotation.blend import Way, blend
from siamfast.annotation.boxes import Box
from siamfast.annotation.formats import read_boxes
from siamfast.cli import main
from siamfast.data.synthetic import SyntheticVideo
from siamfast.evaluation.metrics import overlap
from siamfast.io.output import VideoOutput
from siamfast.tracking.mobile import MobileTracker

LENGTH = 41
HEADER = "frame,id,x,y,w,h\n"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A folder of frames and their true boxes."""
    folder = tmp_path_factory.mktemp("clip")
    video = SyntheticVideo(0, length=LENGTH, size=(180, 240))
    for t, (frame, _) in enumerate(video):
        cv2.imwrite(str(folder / f"{t:03d}.png"), frame[..., ::-1])
    return folder, np.array([box for _, box in video])


def _keys(path: Path, truth: np.ndarray, frames: list[int], target: int = 1, text: str = HEADER) -> str:
    rows = [f"{t},{target}," + ",".join(f"{side:.2f}" for side in truth[t]) for t in frames]
    path.write_text(text + "\n".join(rows) + "\n")
    return path.read_text()


def _present(boxes: list[Box]) -> list[int]:
    return [box.frame for box in boxes if not box.absent]


def _annotate(source: Path, keys: Path, out: Path, *words: str) -> tuple[int, dict[int, list[Box]]]:
    code = main(["annotate", str(source), "--keyframes", str(keys), "--out", str(out), *words])
    boxes: dict[int, list[Box]] = {}
    for box in read_boxes(out):
        boxes.setdefault(box.target, []).append(box)
    return code, boxes


def test_tracking_both_ways_is_better_than_a_straight_line_and_keeps_the_keys(
    clip: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    source, truth = clip
    _keys(tmp_path / "k.csv", truth, [40, 0])  # their order does not matter
    review = tmp_path / "r.html"
    words = ["--review", str(review), "--review-below", "0.98"]
    code, boxes = _annotate(source, tmp_path / "k.csv", tmp_path / "o.csv", *words)
    assert code == 0
    tracked = np.array([box.sides for box in boxes[1]])
    assert [box.frame for box in boxes[1]] == list(range(LENGTH))
    assert tracked[[0, 40]] == pytest.approx(truth[[0, 40]], abs=0.011)
    share = np.arange(LENGTH)[:, None] / 40
    straight = overlap(truth[0] * (1 - share) + truth[40] * share, truth).mean()
    assert overlap(tracked, truth).mean() > straight + 0.05
    page = review.read_text()
    assert page.count('<figure><img src="data:image/jpeg;base64,') == page.count("target 1 (object), frame") > 0


def test_a_video_file_gives_what_its_frames_give(clip: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    source, truth = clip
    with VideoOutput(tmp_path / "v.avi", 25.0) as video:
        for path in sorted(source.iterdir()):
            video.write(cv2.imread(str(path))[..., ::-1])
        video.commit()
    _keys(tmp_path / "k.csv", truth, [0, 20])
    one = _annotate(source, tmp_path / "k.csv", tmp_path / "a.csv")[1][1]
    other = _annotate(tmp_path / "v.avi", tmp_path / "k.csv", tmp_path / "b.csv")[1][1]
    assert len(other) == len(one) == 21
    assert overlap([box.sides for box in other], [box.sides for box in one]).mean() > 0.85


def test_extend_tracks_before_the_first_key_and_after_the_last(
    clip: tuple[Path, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, truth = clip
    _keys(tmp_path / "k.csv", truth, [12])
    assert [box.frame for box in _annotate(source, tmp_path / "k.csv", tmp_path / "a.csv")[1][1]] == [12]
    words = ["--review", str(tmp_path / "r.html"), "--review-below", "1"]
    monkeypatch.setattr(between, "_PIECE", 9)
    boxes = _annotate(source, tmp_path / "k.csv", tmp_path / "b.csv", "--extend", *words)[1][1]
    assert [box.frame for box in boxes] == list(range(LENGTH))
    assert overlap([box.sides for box in boxes], truth).mean() > 0.5
    page = (tmp_path / "r.html").read_text()
    assert page.count("<figure><img") == page.count("<figure>") == 5  # back, to the end in pieces of nine frames


@pytest.mark.parametrize("out", ["o.csv", "o.jsonl", "o.xml", "folder"])
def test_targets_end_come_back_and_have_keys_of_their_own(
    out: str, clip: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    source, truth = clip
    text = _keys(tmp_path / "k.csv", truth, [0, 30, 40], text=HEADER + "8,1,0,0,0,0\n")
    _keys(tmp_path / "k.csv", truth, [5, 33], target=7, text=text)
    code, boxes = _annotate(source, tmp_path / "k.csv", tmp_path / out)
    assert code == 0
    assert _present(boxes[1]) == [*range(8), *range(30, 41)]
    assert _present(boxes[7]) == list(range(5, 34))
    # Who reads the file learns that the target is gone, whichever rows of it are taken for key frames.
    gone = [box.frame for box in boxes[1] if box.absent]
    assert gone == ([8] if out.endswith(".xml") else list(range(8, 30)))


def test_absence_after_the_last_box_is_written(clip: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    source, truth = clip
    _keys(tmp_path / "k.csv", truth, [0, 4], text=HEADER + "6,1,0,0,0,0\n")
    boxes = _annotate(source, tmp_path / "k.csv", tmp_path / "o.csv")[1][1]
    assert _present(boxes) == list(range(6))
    assert [box.frame for box in boxes if box.absent] == [6]
    boxes = _annotate(source, tmp_path / "k.csv", tmp_path / "all.csv", "--extend")[1][1]
    assert [box.frame for box in boxes if box.absent] == list(range(6, LENGTH))


def test_keys_in_neighbouring_frames_need_no_tracker(
    clip: tuple[Path, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a file that the command itself has written: 40 keys took two beginnings of the tracker each."""
    source, truth = clip
    _keys(tmp_path / "k.csv", truth, [*range(20), 25])
    begun = []
    init = MobileTracker.init
    monkeypatch.setattr(MobileTracker, "init", lambda self, *given: (begun.append(1), init(self, *given))[1])
    code, boxes = _annotate(source, tmp_path / "k.csv", tmp_path / "o.csv")
    assert code == 0
    assert len(begun) == 2  # forwards from 19, backwards from 25
    assert [box.frame for box in boxes[1]] == list(range(26))
    kept = np.array([box.sides for box in boxes[1]])
    assert kept[:20] == pytest.approx(truth[:20], abs=0.011)
    assert all(box.confidence == 1 for box in boxes[1][:20])


def test_a_target_that_is_absent_at_first_keeps_its_label(clip: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    box = '{"frame": 2, "id": 1, "box": [20, 30, 30, 30], "label": "cat"}\n'
    (tmp_path / "k.jsonl").write_text('{"frame": 0, "id": 1, "box": null}\n' + box)
    boxes = _annotate(clip[0], tmp_path / "k.jsonl", tmp_path / "o.csv")[1][1]
    assert [(box.frame, box.absent, box.label) for box in boxes] == [
        (0, True, "cat"), (1, True, "cat"), (2, False, "cat"),
    ]  # fmt: skip


def test_the_working_folder_is_an_output_if_it_is_empty(
    clip: tuple[Path, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, truth = clip
    _keys(tmp_path / "k.csv", truth, [3])
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert main(["annotate", str(source), "--keyframes", str(tmp_path / "k.csv"), "--out", "."]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["absence.label", "groundtruth.txt"]


def test_sigterm_while_the_boxes_are_written_leaves_nothing(clip: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    source, truth = clip
    _keys(tmp_path / "k.csv", truth, [3])
    program = (
        "import os, signal, sys\n"
        "from siamfast.annotation import formats\n"
        "from siamfast.cli import main\n"
        "def write(path, boxes, clip):\n"
        "    path.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "formats.FORMATS['csv'] = formats.FORMATS['csv']._replace(write=write)\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["annotate", str(source), "--keyframes", str(tmp_path / "k.csv"), "--out", str(tmp_path / "o.csv")]
    assert subprocess.run([sys.executable, "-c", program, *words], capture_output=True, check=False).returncode == 143
    assert [path.name for path in tmp_path.iterdir()] == ["k.csv"]


def test_keys_that_cannot_be_used_are_one_line_each_and_the_others_go_on(
    clip: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, truth = clip
    rows = "90,1,10,10,20,20\n10,2,10,10,20,20\n14,2,900,10,20,20\n"
    _keys(tmp_path / "k.csv", truth, [0, 10], text=HEADER + rows)
    code, boxes = _annotate(source, tmp_path / "k.csv", tmp_path / "o.csv")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("siamfast annotate: ")]
    assert code == 1
    assert len(lines) == 2
    assert lines[0].startswith("siamfast annotate: target 2, frame 14: ")
    assert "target 1, frame 90: the key frame is beyond the video's end (its last frame is 40)" in lines[1]
    assert [box.frame for box in boxes[1]] == list(range(41))
    assert _present(boxes[2]) == list(range(10, 14))


def test_frames_of_another_size_end_the_video(
    clip: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, truth = clip
    frames = tmp_path / "frames"
    frames.mkdir()
    for t in range(10):
        image = cv2.imread(str(source / f"{t:03d}.png"))
        cv2.imwrite(str(frames / f"{t:03d}.png"), image if t < 7 else cv2.resize(image, (120, 90)))
    _keys(tmp_path / "k.csv", truth, [0, 5, 9])
    code, boxes = _annotate(frames, tmp_path / "k.csv", tmp_path / "o.csv")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("siamfast annotate: ")]
    assert code == 1
    assert "frame 7: 120 x 90 pixels, before it 240 x 180; annotated up to there" in lines[0]
    assert "target 1, frame 9: the key frame is beyond the video's end (its last frame is 6)" in lines[1]
    assert [box.frame for box in boxes[1]] == list(range(7))


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ("3,1,1,2,3\n", [], "k.csv: line 2: box"),
        ("", [], "k.csv: no boxes in it"),
        ("3,1,900,2,3,4\n", [], "no key frame of it can be used"),
        ("3,1,1,2,3,4\n", ["--review-below", "2"], "--review-below: got 2.0"),
        ("3,1,1,2,3,4\n", ["--out", "OUT/o.voc"], "o.voc: its ending does not say the format"),
        ("3,1,1,2,3,4\n", ["--out", "OUT/a/b.csv"], "--out: there is no folder"),
        ("3,1,1,2,3,4\n", ["--out", "OUT"], "--out: .* is not a new or empty folder"),
        ("3,1,1,2,3,4\n", ["--out", "OUT", "--format", "csv"], "--out: .* is a folder, expected a file name"),
        ("3,1,1,2,3,4\n", ["--out", "OUT/k.csv"], "--out: .* is an input"),
        ("3,1,1,2,3,4\n", ["--review", "OUT/o.csv"], "--review: .* is also --out"),
        ("3,1,1,2,3,4\n", ["--weights", "nowhere.safetensors"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    rows: str,
    words: list[str],
    message: str,
    clip: tuple[Path, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "k.csv").write_text(HEADER + rows)
    words = [word.replace("OUT", str(tmp_path)) for word in words]
    line = ["annotate", str(clip[0]), "--keyframes", str(tmp_path / "k.csv"), "--out", str(tmp_path / "o.csv"), *words]
    assert main(line) == 2
    errors = [text for text in capsys.readouterr().err.splitlines() if "error: " in text]
    assert len(errors) == 1
    assert re.search(message, errors[0])
    assert [path.name for path in tmp_path.iterdir()] == ["k.csv"]


def test_ctrl_c_keeps_what_was_complete(
    clip: tuple[Path, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, truth = clip
    _keys(tmp_path / "k.csv", truth, [0, 5, 10])
    calls = iter(range(100))
    joined = between.blend

    def interrupted(*ways: object) -> object:
        if next(calls):
            raise KeyboardInterrupt
        return joined(*ways)  # type: ignore[arg-type]

    monkeypatch.setattr(between, "blend", interrupted)
    code, boxes = _annotate(source, tmp_path / "k.csv", tmp_path / "o.csv")
    assert code == 130
    assert [box.frame for box in boxes[1]] == list(range(6))


def test_a_way_that_missed_its_key_has_no_say_where_the_other_one_hit() -> None:
    times = np.linspace(0, 1, 11)
    truth = np.column_stack([100 * times, np.zeros(11), np.full(11, 20.0), np.full(11, 20.0)])
    late, early = truth.copy(), truth.copy()
    late[1:, :2] += 300
    early[:-1, :2] += 300
    right, sure = Way(truth, np.ones(11)), np.ones(11)
    assert blend(Way(late, sure), right, times).boxes == pytest.approx(truth)
    assert blend(right, Way(early, sure), times).boxes == pytest.approx(truth)


def test_a_steady_drift_is_taken_back() -> None:
    times = np.linspace(0, 1, 11)
    truth = np.column_stack([100 * times, np.zeros(11), 20 * 1.2**times, np.full(11, 20.0)])
    drifted = truth + times[:, None] * [3, 2, 0, 0]
    drifted[:, 2] *= 1.1**times
    drifted[:, 0] -= (drifted[:, 2] - truth[:, 2]) / 2
    result = blend(Way(drifted, np.ones(11)), Way(truth, np.ones(11)), times)
    assert result.boxes == pytest.approx(truth)
    assert np.all(np.diff(result.confidences[:-1]) < 0)  # the directions part
