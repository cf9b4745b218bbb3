"""Reading frames: rates and times, orientation, damage, streams; libraries print nothing."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from siamfast.io.codecs import codec_of
from siamfast.io.decoders import quiet_opencv
from siamfast.io.video import open_frames


def test_quiet_opencv_silences_opencv_and_restores_its_output(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_opencv():
        cv2.imread("nowhere.png")
    assert capfd.readouterr().err == ""
    cv2.imread("nowhere.png")
    assert "nowhere.png" in capfd.readouterr().err


def test_quiet_opencv_ends_with_the_last_of_two_threads(capfd: pytest.CaptureFixture[str]) -> None:
    """Interleaved as two threads may be: the second one enters while the first one has made it quiet."""
    first, second = quiet_opencv(), quiet_opencv()
    first.__enter__()
    second.__enter__()
    first.__exit__()
    cv2.imread("nowhere.png")
    assert capfd.readouterr().err == ""
    second.__exit__()
    cv2.imread("nowhere.png")
    assert "nowhere.png" in capfd.readouterr().err


def _webm(path: Path, jitter: int) -> Path:
    """30 frames, 40 ms apart but for up to `jitter` ms, in a file without a frame rate, as browsers record them."""
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


def test_a_clocks_rate_is_not_the_frame_rate(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = _webm(tmp_path / "a.webm", 7)
    capfd.readouterr()  # discard OpenCV's message about writing VP8
    capture = cv2.VideoCapture(str(path))
    assert (capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)) == (1000, 1200)
    with open_frames(path) as frames:
        assert frames.fps == pytest.approx(25, rel=0.02)
        assert frames.count == pytest.approx(30, abs=1)
        assert len(list(frames)) == 30
    assert capfd.readouterr().err == ""


def test_a_fast_cameras_rate_is_kept(tmp_path: Path) -> None:
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


def test_a_video_at_a_url_is_read_and_a_dead_server_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
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
    opened_devices = []
    monkeypatch.setattr("siamfast.io.video.CameraFrames", opened_devices.append)
    monkeypatch.setattr(Path, "exists", lambda path: True)
    open_frames("/dev/video12")
    assert opened_devices == [12]
    with pytest.raises(ValueError, match="/dev/null: neither a file, a folder nor a camera"):
        open_frames("/dev/null")
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="/dev/video99: no such file or folder"):
        open_frames("/dev/video99")


@pytest.mark.parametrize(("name", "codec", "tag"), [("a.avi", "MJPG", b"MJPG"), ("a.mp4", "mp4v", b"mp4v")])
def test_an_undecodable_codec_is_named(name: str, codec: str, tag: bytes, tmp_path: Path) -> None:
    path = _clip(tmp_path / name, codec)
    path.write_bytes(path.read_bytes().replace(tag, b"XYZW").replace(b"esds", b"free"))
    with pytest.raises(ValueError, match=r"codec 'XYZW': .* `ffmpeg -i IN -c:v libx264 OUT.mp4`"):
        list(open_frames(path))
    assert codec_of(str(_clip(tmp_path / name, codec))) == codec


def test_matroska_names_its_codec(tmp_path: Path) -> None:
    assert codec_of(str(_clip(tmp_path / "a.webm", "VP80"))) == "V_VP8"


def _h264(path: Path, frames: int = 30, **options: str) -> Path:
    """Frame n is gray, 4 n modulo 256."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for n in range(frames):
            image = np.full((64, 96, 3), 4 * n % 256, np.uint8)
            image[:16, :16] = 255  # the corner that was top left
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_video_follows_its_rotation_tag(turn: int, tmp_path: Path) -> None:
    path = _h264(tmp_path / "a.mp4")
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # of version 0: nine numbers, the rotation in the first four of two rows
    cos, sin = round(np.cos(np.deg2rad(turn))), round(np.sin(np.deg2rad(turn)))
    for place, value in zip((0, 1, 3, 4), (cos, sin, -sin, cos), strict=True):
        content[matrix + 4 * place : matrix + 4 * place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(content)
    capture = cv2.VideoCapture(str(path))
    with open_frames(path) as frames:
        for _, image in frames:
            _, theirs = capture.read()
            assert image.shape == theirs.shape
            np.testing.assert_allclose(image.astype(int), theirs[..., ::-1].astype(int), atol=6)


def test_damaged_frames_are_skipped_and_counted(tmp_path: Path) -> None:
    """Each frame keeps its number. Frames that depend on a lost one differ a little until the next key frame, the 20th,
    as in all players."""
    path = _h264(tmp_path / "a.mp4", 40, g="10", bf="0")
    with av.open(str(path)) as container:
        sizes = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    at, size = sizes[12]
    content[at + 4 : at + size] = bytes(np.random.default_rng(0).integers(0, 256, size - 4, dtype=np.uint8))
    path.write_bytes(content)
    with open_frames(path) as frames:
        read = [(index, float(image[32:].mean())) for index, image in frames]
    assert [index for index, _ in read] == [n for n in range(40) if n != 12]
    assert frames.skipped == 1
    for index, gray in read:
        assert gray == pytest.approx(4 * index, abs=6 if 12 < index < 20 else 2)


def test_a_truncated_file_gives_its_whole_frames(tmp_path: Path) -> None:
    path = _h264(tmp_path / "a.mkv", 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with open_frames(path) as frames:
        count = len(list(frames))
    assert 5 < count < 40


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(ValueError, match=r"a\.wav: there is no video in it"):
        open_frames(tmp_path / "a.wav")


def test_stopping_early_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with open_frames(_h264(tmp_path / "a.mp4")) as frames:
        next(iter(frames))
    assert threading.active_count() == before


def test_a_silent_stream_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a file, then silence: the frames that came are kept, and the reason of the end is reported."""
    monkeypatch.setattr("siamfast.io.video_file.TIMEOUT", 1.0)
    content = _h264(tmp_path / "a.ts", 200, g="10", bf="0").read_bytes()
    over = threading.Event()

    class Silent(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            over.wait(30)

        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with open_frames(f"http://127.0.0.1:{server.server_port}/a.ts") as frames:
            count = len(list(frames))
        over.set()
        server.shutdown()
    assert 50 < count < 200
    assert "no answer for 1 s" in frames.trouble
