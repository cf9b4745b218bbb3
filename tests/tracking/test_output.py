"""Written videos keep all pixel rows, any frame rate and file name, and the times of frames."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from siamfast.cli import main
from siamfast.io.output import VideoOutput
from siamfast.io.video import open_frames


def _write(path: str | Path, fps: float = 25.0, size: tuple[int, int] = (120, 160)) -> None:
    with VideoOutput(path, fps) as output:
        for t in range(5):
            image = np.full((*size, 3), 20 * t, np.uint8)
            image[-2:], image[:, -2:] = 250, 250
            output.write(image)
        output.commit()


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv"])
@pytest.mark.parametrize(
    ("size", "written"), [((121, 161), (122, 162)), ((120, 161), (120, 162)), ((64, 48), (64, 48))]
)
def test_odd_sides_lose_no_pixels(ending: str, size: tuple[int, int], written: tuple[int, int], tmp_path: Path) -> None:
    _write(tmp_path / f"v{ending}", size=size)
    frames = [image for _, image in open_frames(tmp_path / f"v{ending}")]
    assert len(frames) == 5
    for image in frames:
        assert image.shape == (*written, 3)
        assert image[size[0] - 1, 10].mean() > 200
        assert image[10, size[1] - 1].mean() > 200


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
@pytest.mark.parametrize("fps", [119.633, 59.94006, 23.976024, 239.7602, 7.1234567, 25.0, 1000.0])
def test_any_frame_rate_is_written(ending: str, fps: float, tmp_path: Path) -> None:
    _write(tmp_path / f"v{ending}", fps)
    assert cv2.VideoCapture(str(tmp_path / f"v{ending}")).get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=1e-3)


def test_names_may_have_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _write("take:1.mp4")
    assert len(list(open_frames("take:1.mp4"))) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["take:1.mp4"]


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_times_of_frames_are_kept(ending: str, tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 0.5, 0.52, 1.2]
    with VideoOutput(tmp_path / f"v{ending}", 25.0) as output:
        for n, time in enumerate(times):
            output.write(np.full((48, 64, 3), 40 * n, np.uint8), time)
        output.commit()
    with open_frames(tmp_path / f"v{ending}") as frames:
        read = [frames.time for _ in frames]
    np.testing.assert_allclose(read, times, atol=1e-3)  # Matroska counts thousandths of a second


def test_a_time_that_does_not_increase_is_moved_forward(tmp_path: Path) -> None:
    with VideoOutput(tmp_path / "v.mp4", 25.0) as output:
        for time in (0.0, 0.04, 0.04, None):
            output.write(np.zeros((48, 64, 3), np.uint8), time)
        output.commit()
    with open_frames(tmp_path / "v.mp4") as frames:
        read = [frames.time for _ in frames]
    assert len(read) == 4
    np.testing.assert_allclose(read, [0.0, 0.04, 0.04, 0.08], atol=1e-3)


def test_written_videos_play_in_browsers(tmp_path: Path) -> None:
    _write(tmp_path / "v.mp4")
    with av.open(str(tmp_path / "v.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    content = (tmp_path / "v.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # so that playback starts before the download ends


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    """/dev/full takes no byte, like a full disk."""
    output = VideoOutput(tmp_path / "v.mkv", 25.0)
    output.temporary.unlink()
    output.temporary.symlink_to("/dev/full")
    noise = np.random.default_rng(0).integers(0, 256, (200, 120, 160, 3), dtype=np.uint8)

    def write() -> None:
        with output:
            for image in noise:
                output.write(image)
            output.commit()

    with pytest.raises(OSError, match=r"--out: cannot write .*v\.mkv: No space left on device"):
        write()
    assert not list(tmp_path.iterdir())


def test_a_tracked_video_keeps_its_times(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 1.0, 1.04]
    with VideoOutput(tmp_path / "in.mp4", 25.0) as output:
        for time in times:
            output.write(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8), time)
        output.commit()
    assert main(["track", str(tmp_path / "in.mp4"), "--box", "60,40,30,20", "--out", str(tmp_path / "out.mp4")]) == 0
    with open_frames(tmp_path / "out.mp4") as frames:
        np.testing.assert_allclose([frames.time for _ in frames], times, atol=1e-3)
