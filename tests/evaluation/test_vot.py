"""`siamfast vot` speaks TraX: a client starts it, gives it a target and frames, and gets boxes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamfast.data.synthetic import SyntheticVideo
from siamfast.tracking.siamfc import SiamFCTracker

trax = pytest.importorskip("trax")
trax_client = pytest.importorskip("trax.client")


def test_a_trax_client_gets_the_trackers_own_boxes(tmp_path: Path) -> None:
    video = SyntheticVideo(0, length=4, size=(120, 160))
    paths, images = [], []
    for t in range(4):
        paths.append(str(tmp_path / f"{t}.png"))
        cv2.imwrite(paths[-1], video.frame(t)[..., ::-1])
        images.append(video.frame(t))
    box = tuple(float(v) for v in np.round(video.box(0), 2))
    command = [sys.executable, "-m", "siamfast.cli", "vot", "--model", "siamfc", "--device", "cpu"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        pipes = server.stdin.fileno(), server.stdout.fileno()
        client = trax_client.Client(stream=pipes, log=lambda _: None)  # the bindings fail without a log
        assert client.tracker_name == "siamfast-SiamFC"
        regions = []
        for t, path in enumerate(paths):
            image = {"color": trax.FileImage.create(path)}
            if t == 0:
                objects, _ = client.initialize(image, [(trax.Rectangle.create(*box), {})], {})
            else:
                objects, _ = client.frame(image, {}, [])
            region, properties = objects[0]
            regions.append(region.bounds())
            assert 0 <= float(properties.get("confidence", 1)) <= 1
        client.quit()
        assert server.wait(30) == 0
    expected, _ = SiamFCTracker(device="cpu").track(images, box)
    np.testing.assert_allclose(regions, expected, atol=0.05)
