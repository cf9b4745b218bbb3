"""Live sources: the newest frame at each step, sources that break off, a window with keys, latencies."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamfast.cli import main
from siamfast.data.synthetic import SyntheticVideo
from siamfast.io.frames import Frames
from siamfast.io.images import Image
from siamfast.io.live import LiveFrames
from siamfast.io.output import VideoOutput
from siamfast.tracking import drawing

LENGTH = 12


class Source(Frames):
    """Frames of one value each, `first`, `first` + 1, ..., then an end."""

    name = "source"

    def __init__(self, first: int, count: int, *, live: bool, fps: float = 100.0) -> None:
        self.first, self.number, self.live, self.fps = first, count, live, fps

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        for index in range(self.number):
            if self.live:
                time.sleep(0.01)
            yield index, np.full((4, 6, 3), self.first + index, np.uint8)


def test_a_slow_reader_gets_the_newest_frames() -> None:
    begin = time.perf_counter()
    with LiveFrames(lambda: Source(0, 40, live=False)) as frames:
        got = []
        for index, image in frames:
            assert image[0, 0, 0] == index
            assert frames.arrived is not None
            assert time.perf_counter() >= frames.arrived
            got.append(index)
            time.sleep(0.05)
    assert time.perf_counter() - begin > 0.35  # the file's own speed, 40 frames at 100 a second
    assert got == sorted(set(got))
    assert got[-1] == 39  # the last frame is never dropped
    assert frames.dropped == 40 - len(got) > 0
    assert not frames.trouble


def test_a_source_that_breaks_off_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back twice, then it is silent."""
    monkeypatch.setattr("siamfast.io.live._FIRST_WAIT", 0.01)
    openings = []

    def reopen() -> Frames:
        openings.append(time.perf_counter())
        if len(openings) in (2, 5) or len(openings) > 6:
            raise ValueError("source: cannot be opened")
        return Source(100 * (len(openings) // 3), 5 if len(openings) < 6 else 0, live=True)

    with LiveFrames(reopen, timeout=0.3) as frames:
        got = [(index, int(image[0, 0, 0])) for index, image in frames]
    assert len(got) + frames.dropped == 15
    assert [index for index, _ in got] == sorted({index for index, _ in got})
    assert got[-1] == (14, 104)
    assert re.search(r"broke off \d+ times, no frame for 0.3 s", frames.trouble)


def test_a_source_that_opens_but_has_no_frames_any_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siamfast.io.live._FIRST_WAIT", 0.01)
    openings = []

    def reopen() -> Frames:
        openings.append(1)
        assert len(openings) < 1000
        return Source(0, 3 if len(openings) == 1 else 0, live=True)

    begin = time.perf_counter()
    with LiveFrames(reopen, timeout=0.3) as frames:
        assert [index for index, _ in frames][-1] == 2
    assert time.perf_counter() - begin < 5
    assert len(openings) > 2
    assert frames.trouble.endswith("no frame for 0.3 s")


def test_a_file_behind_a_url_that_breaks_off_says_so() -> None:
    class Cut(Source):
        def __iter__(self) -> Iterator[tuple[int, Image]]:
            yield from super().__iter__()
            self.trouble = "the stream broke off (reset)"

    with LiveFrames(lambda: Cut(0, 3, live=False)) as frames:
        assert len(list(frames)) > 0
    assert frames.trouble == "the stream broke off (reset)"


def test_errors_of_the_first_opening_are_the_readers() -> None:
    def refuse() -> Frames:
        raise ValueError("source: cannot be opened")

    class Empty(Source):
        def __iter__(self) -> Iterator[tuple[int, Image]]:
            raise ValueError("source: no frame can be decoded")

    with pytest.raises(ValueError, match="cannot be opened"):
        LiveFrames(refuse)
    with LiveFrames(lambda: Empty(0, 0, live=True)) as frames, pytest.raises(ValueError, match="no frame can be"):
        list(frames)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    video, path = SyntheticVideo(21, length=LENGTH, size=(120, 160)), tmp_path_factory.mktemp("live") / "clip.mp4"
    with VideoOutput(path, 25.0) as output:
        for t in range(LENGTH):
            output.write(video.frame(t), None)
        output.commit()
    return path


def test_live_tracking_says_what_was_dropped(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "boxes.csv"
    assert main(["track", str(clip), "--box=60,40,40,30", "--live", "--csv", str(out)]) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    indexes = [int(line.split(",")[0]) for line in out.read_text().splitlines()[1:]]
    assert indexes == sorted(set(indexes))
    assert indexes[-1] == LENGTH - 1
    dropped = re.search(r"(\d+) frames were dropped to keep up", last)
    assert LENGTH - len(indexes) == (int(dropped[1]) if dropped else 0)
    assert re.search(r"latency [\d.]+ ms \(p50\), [\d.]+ ms \(p99\)", last)


def test_keys_of_the_window(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, drawn = iter([-1, ord("r"), -1, ord("r"), ord("q")]), iter([(100, 50, 20, 20), (0, 0, 0, 0)])
    shown: list[int] = []
    monkeypatch.setattr(drawing, "window_missing", lambda: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(len(image)))
    monkeypatch.setattr(cv2, "waitKey", lambda delay: next(keys))
    monkeypatch.setattr(cv2, "selectROI", lambda *args, **kwargs: next(drawn))
    monkeypatch.setattr(cv2, "destroyWindow", lambda title: None)
    out = tmp_path / "boxes.csv"
    assert main(["track", str(clip), "--box=20,40,40,30", "--show", "--csv", str(out)]) == 0
    rows = [[float(number) for number in line.split(",")] for line in out.read_text().splitlines()[1:]]
    assert len(rows) == len(shown) == 5  # q ended it
    assert rows[1][1] < 60 < 90 < rows[2][1]  # after r the target is at the new box
    assert rows[4][1] > 90  # nothing was drawn the second time


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--show"], "--show: a window cannot be opened"),
        (["--timeout", "5"], "--timeout: got 5, expected seconds above 0, and --live"),
        (["--live", "--timeout", "0"], "--timeout: got 0, expected seconds above 0"),
    ],
)
def test_bad_options(clip: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str],
                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["track", str(clip), "--box=1,2,30,40", *words]) == 2
    assert message in capsys.readouterr().err
