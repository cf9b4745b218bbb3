"""Videos out: every pixel row, any frame rate, any file name."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from siamfast.io.output import VideoOutput, encodable_fps
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
    assert encodable_fps(fps) == pytest.approx(fps, rel=1e-4)
    assert cv2.VideoCapture(str(tmp_path / f"v{ending}")).get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=1e-3)


def test_names_may_have_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _write("take:1.mp4")
    assert len(list(open_frames("take:1.mp4"))) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["take:1.mp4"]
