"""What a command does to files that are there already, and how it ends when it is interrupted."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from siamfast.annotation.boxes import Box, Clip
from siamfast.annotation.formats import write_boxes
from siamfast.cli import main
from siamfast.commands import info
from siamfast.commands.outputs import name_of_a_part
from siamfast.data.synthetic import SyntheticVideo
from siamfast.io.images import Image
from siamfast.io.masks import default_palette, write_mask
from siamfast.io.output import CODECS
from siamfast.io.video import ImageFrames
from siamfast.tracking.course import Alone, Change, Course
from siamfast.tracking.mobile import MobileTracker

KEYS = "frame,id,x,y,w,h\n0,1,20,30,30,30\n3,1,22,30,30,30\n"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    video, folder = SyntheticVideo(21, length=6, size=(120, 160)), tmp_path / "clip"
    folder.mkdir()
    for t in range(6):
        cv2.imwrite(str(folder / f"{t:04d}.png"), video.frame(t)[..., ::-1])
    (folder / "groundtruth.txt").write_text("20,30,30,30\n" * 6)
    (tmp_path / "keys.csv").write_text(KEYS)
    return folder


@pytest.mark.parametrize(
    ("words", "name", "message"),
    [
        (["track", "CLIP", "--box=20,30,30,30", "--csv"], "clip/groundtruth.txt", "--csv: .* is a file of the input"),
        (["track", "CLIP", "--box=20,30,30,30", "--csv"], "clip/0001.png", "--csv: .* is a file of the input"),
        (["track", "CLIP", "--box=20,30,30,30", "--csv"], "notes.txt", "--csv: .* is another file"),
        (["track", "CLIP", "--box=20,30,30,30", "--csv"], "labels.csv", "--csv: .* is another file"),
        (["track", "GLOB", "--box=20,30,30,30", "--csv"], "clip/labels.csv", "--csv: .* is another file"),
        (["track", "GLOB", "--box=20,30,30,30", "--csv"], "clip/0001.png", "--csv: .* is an input"),
        (["track", "CLIP", "--box=20,30,30,30", "--out"], "notes.mp4", "--out: .* is another file"),
        (["track", "CLIP", "--box=20,30,30,30", "--out"], "holiday.mp4", "--out: .* is another file"),
        (["propagate", "CLIP", "--mask", "MASK", "--out", "m", "--overlay"], "holiday.mp4", "--overlay: .* is another"),
        (["annotate", "CLIP", "--keyframes", "KEYS", "--out"], "labels.csv", "--out: .* is another file"),
        (["annotate", "CLIP", "--keyframes", "KEYS", "--out"], "labels.xml", "--out: .* is another file"),
        (["annotate", "CLIP", "--keyframes", "KEYS", "--out"], "notes.csv", "--out: .* is another file"),
        (["annotate", "CLIP", "--keyframes", "KEYS", "--format", "mot", "--out"], "clip/groundtruth.txt", "the input"),
        (
            ["annotate", "CLIP", "--keyframes", "KEYS", "--out", "o.csv", "--review"],
            "notes.txt",
            "--review: .* another",
        ),
    ],
)
def test_another_file_is_not_overwritten(
    words: list[str], name: str, message: str, clip: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    if not path.exists():
        path.write_text("dear diary\n")
    if path.name == "labels.csv":
        path.write_text("frame,id,x,y,w,h,label,occluded,comment\n0,1,1,2,3,4,cat,0,mine\n")
    elif path.name == "labels.xml":
        write_boxes(path, [Box(0, 1, 1, 2, 3, 4)], Clip("a", 160, 120, 6))
        path.write_text(path.read_text().replace('source="semi-auto"', 'source="manual"'))
    elif path.name == "holiday.mp4":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.zeros((120, 160, 3), np.uint8), format="rgb24")
            container.mux([*stream.encode(frame), *stream.encode(None)])
    write_mask(tmp_path / "mask.png", np.eye(160, dtype=np.uint8)[:120], default_palette())
    before = path.read_bytes()
    places = {"CLIP": str(clip), "KEYS": str(tmp_path / "keys.csv"), "GLOB": str(clip / "*.png")}
    places["MASK"] = str(tmp_path / "mask.png")
    assert main([*(places.get(word, word) for word in words), name]) == 2
    assert path.read_bytes() == before
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl", "o.txt", "o.json", "o.xml", "o.mp4", "o.mkv", "o.avi"])
def test_a_file_that_the_command_wrote_is_replaced(name: str, clip: Path, tmp_path: Path) -> None:
    path, keys = tmp_path / name, tmp_path / "keys.csv"
    words = ["track", str(clip), "--box=20,30,30,30", "--out", str(path)]
    if path.suffix not in CODECS:
        keys.write_text(KEYS + "4,2,0,0,20,20\n5,2,0,0,0,0\n")
        words = ["annotate", str(clip), "--keyframes", str(keys), "--out", str(path), "--extend"]
    assert main(words) == 0
    before = path.stat().st_ino
    assert main(words) == 0
    assert path.stat().st_ino != before


def test_boxes_of_track_are_replaced(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("frame,x,y,w,h,confidence,lost\n0,1,2,3,4,0.5,0\n")
    assert main(["track", str(clip), "--box=20,30,30,30", "--csv", str(path)]) == 0
    assert len(path.read_text().splitlines()) > 2


def test_ctrl_c_does_not_replace_a_whole_file_by_a_part(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(ImageFrames):
        def __iter__(self) -> Iterator[tuple[int, Image]]:
            for index, image in super().__iter__():
                if index == 3:
                    raise KeyboardInterrupt
                yield index, image

    monkeypatch.setattr("siamfast.io.video.ImageFrames", Interrupted)
    path = tmp_path / "boxes.csv"
    words = ["track", str(clip), "--box=20,30,30,30", "--csv", str(path)]
    assert main(words) == 130
    part = path.read_text()
    assert len(part.splitlines()) == 4
    path.write_text(whole := part + "3,1,2,3,4,0.5\n")
    assert main(words) == 130
    assert path.read_text() == whole
    assert (tmp_path / "boxes.stopped.csv").read_text().splitlines()[0] == part.splitlines()[0]
    assert "wrote " + str(name_of_a_part(path)) in capsys.readouterr().err


def test_an_error_that_a_library_makes_of_ctrl_c_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As PyTorch's exporter does while it imports its parts."""

    def run(arguments: object) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise AttributeError("module 'torch._dynamo' has no attribute 'exc'") from None
        return 0

    monkeypatch.setattr(info, "run", run)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        assert main(["info"]) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "siamfast info: stopped\n"


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background


def test_ctrl_c_does_not_wait_for_a_server_that_says_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        command = [
            sys.executable,
            "-m",
            "siamfast.cli",
            "track",
            url,
            "--box=1,1,9,9",
            "--csv",
            str(tmp_path / "a.csv"),
        ]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts)
        accepted = threading.Event()

        def accept() -> None:
            kept.append(server.accept()[0])
            accepted.set()

        kept: list[socket.socket] = []
        threading.Thread(target=accept, daemon=True).start()
        assert accepted.wait(120)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
        for connection in kept:
            connection.close()
    assert (process.returncode, error) == (130, "siamfast track: stopped\n")
    assert not list(tmp_path.iterdir())


def test_frames_that_change_their_size_are_tracked_on(clip: Path, tmp_path: Path) -> None:
    larger = tmp_path / "larger"
    shutil.copytree(clip, larger)
    for t in range(3, 6):
        path = larger / f"{t:04d}.png"
        image = cv2.imread(str(path))
        assert image is not None
        cv2.imwrite(str(path), cv2.resize(image, None, fx=2, fy=3, interpolation=cv2.INTER_NEAREST))
    results = []
    for folder in (clip, larger):
        course = Course(Alone(MobileTracker(precision="float32")), [Change(0, 1, (20, 30, 30, 30))])
        paths = sorted(folder.glob("*.png"))
        results.append(np.array([tracks[1].box for _, _, tracks in course.follow(ImageFrames(paths, "a"))]))
    same, changed = results
    changed[3:] /= (2, 3, 2, 3)
    np.testing.assert_allclose(changed, same, atol=0.01)  # INTER_AREA undoes whole factors of nearest neighbours
    assert course.sizes == ["frame 3: 320 x 360 pixels, before it 160 x 120"]
