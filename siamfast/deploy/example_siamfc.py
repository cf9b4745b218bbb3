"""Track one target with the exported SiamFC tracker; needs numpy, OpenCV and onnxruntime alone.

python example_tracker.py VIDEO_OR_FOLDER --box X,Y,W,H [--precision int8] prints a box per frame. Copy and change it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

FORMAT_VERSION = 1  # of tracker.json and of the graphs


def open_graph(path: Path, constants: dict[str, Any]) -> Any:
    """A session of onnxruntime. ValueError: the graph cannot be loaded, or was not exported with these constants."""
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own class for each kind of error
        raise ValueError(f"{path}: onnxruntime cannot load it ({str(error).splitlines()[0][:200]})") from None
    written = session.get_modelmeta().custom_metadata_map
    for key in ("format_version", "weights_sha256"):
        if written.get(key) != str(constants[key]):
            raise ValueError(f"{path}: its {key} is {written.get(key)}, expected {constants[key]} as in tracker.json")
    return session


def cut(frame: Any, middle: Any, side: float, out: int, fill: Any) -> Any:
    """The square of `side` pixels, rounded, around `middle` (x, y; pixel 0 has its middle at 0), resized bilinearly to
    (out, out, 3) uint8; outside the frame it shows the color `fill`. In siamfast's fixed point, 1/128 of a level."""
    if frame.dtype != np.uint8 or frame.shape[2:] != (3,):
        raise ValueError(f"frame: got {frame.dtype}, shape {frame.shape}, expected uint8, (H, W, 3)")
    whole = max(1, round(side))
    corner = np.rint(middle - (whole - 1) / 2)

    def taps(first: float, count: int) -> tuple[Any, Any, Any]:  # two pixels each; which are outside; weights
        place = first + np.clip((np.arange(out) + 0.5) * (whole / out) - 0.5, 0, whole - 1)
        index = np.minimum(np.floor(place), first + max(0, whole - 2))
        weight = np.floor((place - index).astype(np.float32) * 32768 + 0.5).clip(max=32767).astype(np.int32)
        index = index.astype(int) + np.array([[0], [1]])
        return index.clip(0, count - 1), (index < 0) | (index >= count), weight

    def blend(first: Any, second: Any, outside: Any, weight: Any) -> Any:
        first[outside[0]] = second[outside[1]] = np.floor(fill * 128 + 0.5).astype(np.int32)
        return first + ((second - first) * weight + 0x4000 >> 15)

    (x, beside, across), (y, above, down) = taps(corner[0], frame.shape[1]), taps(corner[1], frame.shape[0])
    part = frame[:, x.min() : x.max() + 1]
    rows = blend(part[y[0]] * np.int32(128), part[y[1]] * np.int32(128), above, down[:, None, None]).swapaxes(0, 1)
    pixels = blend(rows[x[0] - x.min()], rows[x[1] - x.min()], beside, across[:, None, None])
    return (pixels.swapaxes(0, 1) + 64 >> 7).astype(np.uint8, "C")


class Tracker:
    """`init` on the first frame, `update` on every later one. frame: (H, W, 3) uint8 RGB; box: x, y, w, h in pixels."""

    def __init__(self, folder: Path, precision: str = "float32") -> None:
        try:
            self.c = c = dict(json.loads((folder / "tracker.json").read_text()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{folder / 'tracker.json'}: is no JSON object ({error})") from None
        for key, expected in (("model", ["siamfc"]), ("format_version", [FORMAT_VERSION]), ("batch", [1, "dynamic"])):
            if c.get(key) not in expected:
                raise ValueError(f"{folder / 'tracker.json'}: {key} is {c.get(key)}, expected {expected[0]}")
        if precision not in c["graphs"]:
            raise ValueError(f"--precision: got {precision}, expected one of {', '.join(c['graphs'])}")
        self.template, self.net = (open_graph(folder / name, c) for name in c["graphs"][precision].values())
        self.factors = c["scale_step"] ** np.arange(-(c["scales"] // 2), c["scales"] // 2 + 1, dtype=np.float64)
        self.penalties = np.where(self.factors == 1, 1.0, c["scale_penalty"])
        hann = np.hanning(c["cells"] * c["upsample"])
        self.window = np.outer(hann, hann) / hann.sum() ** 2

    def init(self, frame: Any, box: Any) -> None:
        """Take the target from the first frame. ValueError: the box is not in it."""
        x, y, w, h = map(float, box)
        fits = 1e-3 <= w <= 1e5 and 1e-3 <= h <= 1e5  # not nan
        if not (fits and -w < x < frame.shape[1] and -h < y < frame.shape[0]):
            size = f"{frame.shape[1]} x {frame.shape[0]}"
            raise ValueError(f"box: got {x:g},{y:g},{w:g},{h:g}, expected sides above 0, in the frame of {size}")
        c, self.first_size, self.grown = self.c, np.array(box[2:], float), 1.0
        self.middle = np.array(box[:2]) + (self.first_size - 1) / 2
        self.fill = np.rint(frame.mean((0, 1))).astype(np.float32)
        self.side = np.sqrt(np.prod(self.first_size + c["context_amount"] * self.first_size.sum()))
        image = cut(frame, self.middle, self.side, c["exemplar"], self.fill)
        self.kernel = self.template.run(None, {"image": image[None]})[0]
        self.first_height = max(self.search(frame)[3], 1e-12)

    def update(self, frame: Any) -> tuple[Any, float]:
        """The target's box in the next frame, and the confidence, 0 to 1."""
        c, (height, width) = self.c, frame.shape[:2]
        scale, side, offset, peak = self.search(frame)
        move = offset * c["stride"] * side / c["instance"]
        self.middle = np.clip(self.middle + move, 0, [width - 1, height - 1])
        growth = 1 - c["scale_lr"] + c["scale_lr"] * self.factors[scale]
        grown = np.clip(self.grown * growth, c["min_scale"], c["max_scale"])
        self.side, self.grown = self.side * grown / self.grown, grown
        size = self.first_size * grown
        box = np.concatenate([self.middle - (size - 1) / 2, size])
        return box, float(np.clip(peak / self.first_height, 0, 1))

    def search(self, frame: Any) -> tuple[int, float, Any, float]:
        """The best scale, the side of its crop in frame pixels, the target's offset in cells, the peak's height."""
        c = self.c
        sides = np.maximum(self.side * c["instance"] / c["exemplar"] * self.factors, 1)
        crops = np.stack([cut(frame, self.middle, side, c["instance"], self.fill) for side in sides])
        responses = self.net.run(None, {"image": crops[None], "kernel": self.kernel})[0][0]
        count = c["cells"] * c["upsample"]
        maps = np.stack([cv2.resize(r, (count, count), interpolation=cv2.INTER_CUBIC) for r in responses])
        scale = int((maps.max((1, 2)) * self.penalties).argmax())
        above = maps[scale] - maps[scale].min()
        influence = c["window_influence"]
        blended = above / max(above.sum(dtype=np.float64), 1e-16) * (1 - influence) + self.window * influence
        row, column = np.unravel_index(blended.argmax(), blended.shape)
        offset = (np.array([column, row]) - (count - 1) / 2) / c["upsample"]
        return scale, sides[scale], offset, float(maps[scale][row, column] - responses[scale].mean())


def read_frames(source: str) -> Iterator[Any]:
    """RGB frames of a folder of images or of a video. ValueError: there are none, or one cannot be decoded."""
    if Path(source).is_dir():
        names = sorted(p for p in Path(source).iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        frames: Iterator[Any] = (cv2.imread(str(name)) for name in names)
    else:
        video = cv2.VideoCapture(source)
        frames = (frame for _, frame in iter(video.read, (False, None)))
    number = -1
    for number, frame in enumerate(frames):
        if frame is None:
            raise ValueError(f"{source}: image {number} cannot be decoded")
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    if number < 0:
        raise ValueError(f"{source}: got no frames, expected a video or a folder of images")


def main() -> None:
    """Print frame, x, y, w, h and confidence for every frame."""
    parser = argparse.ArgumentParser(description="Track one target with exported networks.")
    parser.add_argument("source", help="a video, or a folder of images")
    parser.add_argument("--box", required=True, help="x,y,w,h of the target in the first frame, pixels")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="of tracker.json and the graphs")
    parser.add_argument("--precision", default="float32", help="one of those exported (default: float32)")
    arguments = parser.parse_args()
    try:
        box, confidence = np.array([float(number) for number in arguments.box.split(",")]), 1.0
        if box.shape != (4,) or not np.isfinite(box).all():
            raise ValueError(f"--box: got {arguments.box}, expected four numbers x,y,w,h")
        tracker = Tracker(arguments.folder, arguments.precision)
        for number, frame in enumerate(read_frames(arguments.source)):
            if number:
                box, confidence = tracker.update(frame)
            else:
                tracker.init(frame, box)
            print(number, *(f"{value:.2f}" for value in box), f"{confidence:.4f}", sep=",")
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: error: {error}")


if __name__ == "__main__":
    main()
