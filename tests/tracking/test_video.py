"""Frames in: what OpenCV says by itself stays out of a command's output."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamfast.io.codecs import codec_of
from siamfast.io.decoders import quiet_opencv
from siamfast.io.video import open_frames


def test_opencv_is_silent_within_quiet_opencv_and_as_before_after_it(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_opencv():
        cv2.imread("nowhere.png")
    assert capfd.readouterr().err == ""
    cv2.imread("nowhere.png")
    assert "nowhere.png" in capfd.readouterr().err


def _webm(path: Path, jitter: int) -> Path:
    """30 frames, 40 ms apart but for up to `jitter` ms, in a file that says nothing of its rate, as browsers record."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), 25, (160, 120))
    for t in range(30):
        writer.write(np.full((120, 160, 3), 5 * t, np.uint8))
    writer.release()
    content = bytearray(path.read_bytes())
    duration = content.index(b"\x23\xe3\x83")  # DefaultDuration: made Void
    size = (content[duration + 3] & 0x7F) + 2
    content[duration : duration + 2] = bytes([0xEC, 0x80 | size])
    rng = np.random.default_rng(0)
    for at in range(content.index(b"\x1f\x43\xb6\x75"), len(content) - 8):
        length = 9 - content[at + 1].bit_length()  # of a SimpleBlock's size; track 1 and its time, 2 bytes, come behind
        if content[at] == 0xA3 and length < 5 and content[at + 1 + length] == 0x81:
            time = slice(at + 2 + length, at + 4 + length)
            moved = max(0, int.from_bytes(content[time], "big") + int(rng.integers(-jitter, jitter + 1)))
            content[time] = moved.to_bytes(2, "big")
    path.write_bytes(content)
    return path


def test_a_clock_s_rate_is_not_taken_for_the_frames(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = _webm(tmp_path / "a.webm", 7)
    capfd.readouterr()  # what OpenCV says of writing VP8
    capture = cv2.VideoCapture(str(path))
    assert (capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)) == (1000, 1200)
    with open_frames(path) as frames:
        assert frames.fps == pytest.approx(25, rel=0.02)
        assert frames.count == pytest.approx(30, abs=1)
        assert len(list(frames)) == 30
    assert capfd.readouterr().err == ""


def test_a_fast_camera_s_rate_is_kept(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 480, (160, 120))
    for t in range(20):
        writer.write(np.full((120, 160, 3), 5 * t, np.uint8))
    writer.release()
    with open_frames(tmp_path / "a.mp4") as frames:
        assert (frames.fps, frames.count) == (480, 20)


def _clip(path: Path, codec: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, (160, 120))
    for t in range(5):
        writer.write(np.full((120, 160, 3), 40 * t, np.uint8))
    writer.release()
    return path


def test_a_video_behind_a_url_is_read_and_what_does_not_answer_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _clip(tmp_path / "a.avi")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with open_frames(f"{url}/a.avi") as frames:
            assert len(list(frames)) == 5
        for name in (f"{url}/nothing.avi?b=[1]", "rtsp://127.0.0.1:1/a", "unheard-of://a"):
            with pytest.raises(ValueError, match=re.escape(f"{name}: cannot be opened as a video stream")):
                open_frames(name)
        server.shutdown()
    assert capfd.readouterr() == ("", "")


def test_devices_are_cameras_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("siamfast.io.video.CaptureFrames", asked.append)
    monkeypatch.setattr(Path, "exists", lambda path: True)
    open_frames("/dev/video12")
    assert asked == [12]
    with pytest.raises(ValueError, match="/dev/null: neither a file, a folder nor a camera"):
        open_frames("/dev/null")
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="/dev/video99: no such file or folder"):
        open_frames("/dev/video99")


@pytest.mark.parametrize(("name", "codec", "there"), [("a.avi", "MJPG", b"MJPG"), ("a.mp4", "mp4v", b"mp4v")])
def test_a_codec_that_is_not_decoded_is_named(name: str, codec: str, there: bytes, tmp_path: Path) -> None:
    path = _clip(tmp_path / name, codec)
    path.write_bytes(path.read_bytes().replace(there, b"XYZW").replace(b"esds", b"free"))
    with pytest.raises(ValueError, match=r"codec 'XYZW': .* `ffmpeg -i IN -c:v libx264 OUT.mp4`"):
        list(open_frames(path))
    assert codec_of(str(_clip(tmp_path / name, codec))) == codec


def test_matroska_names_its_codec(tmp_path: Path) -> None:
    assert codec_of(str(_clip(tmp_path / "a.webm", "VP80"))) == "V_VP8"
