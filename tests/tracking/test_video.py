"""Frames in: what OpenCV says by itself stays out of a command's output."""

from __future__ import annotations

import cv2
import pytest

from siamfast.tracking.video import quiet_opencv


def test_opencv_is_silent_within_quiet_opencv_and_as_before_after_it(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_opencv():
        cv2.imread("nowhere.png")
    assert capfd.readouterr().err == ""
    cv2.imread("nowhere.png")
    assert "nowhere.png" in capfd.readouterr().err
