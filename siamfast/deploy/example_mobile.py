"""Track one target with the exported mobile tracker; needs numpy, OpenCV and onnxruntime alone.

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
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # convolutions of 50 us gain nothing from a second thread
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own class for each kind of error
        raise ValueError(f"{path}: onnxruntime cannot load it ({str(error).splitlines()[0][:200]})") from None
    written = session.get_modelmeta().custom_metadata_map
    for key in ("format_version", "weights_sha256"):
        if written.get(key) != str(constants[key]):
            raise ValueError(f"{path}: its {key} is {written.get(key)}, expected {constants[key]} as in tracker.json")
    return session


def cut(frame: Any, middle: Any, side: float, out: int, fill: Any) -> Any:
    """The square of `side` pixels around `middle` (x, y from the frame's corner), resized bilinearly to (1, out, out,
    3) uint8; outside the frame it shows the color `fill`. In siamfast's fixed point, 1/128 of a grey level."""
    if frame.dtype != np.uint8 or frame.shape[2:] != (3,):
        raise ValueError(f"frame: got {frame.dtype}, shape {frame.shape}, expected uint8, (H, W, 3)")

    def taps(center: float, count: int) -> tuple[Any, Any, Any]:  # two pixels each; which are outside; weights
        place = center - side / 2 + (np.arange(out) + 0.5) * (side / out) - 0.5
        index = np.floor(place)
        weight = np.floor((place - index).astype(np.float32) * 32768 + 0.5).clip(max=32767).astype(np.int32)
        index = index.astype(int) + np.array([[0], [1]])
        return index.clip(0, count - 1), (index < 0) | (index >= count), weight

    def blend(first: Any, second: Any, outside: Any, weight: Any) -> Any:
        first[outside[0]] = second[outside[1]] = np.floor(np.float32(fill) * 128 + 0.5).astype(np.int32)
        return first + ((second - first) * weight + 0x4000 >> 15)

    (x, beside, across), (y, above, down) = taps(middle[0], frame.shape[1]), taps(middle[1], frame.shape[0])
    part = frame[:, x.min() : x.max() + 1]
    rows = blend(part[y[0]] * np.int32(128), part[y[1]] * np.int32(128), above, down[:, None, None]).swapaxes(0, 1)
    pixels = blend(rows[x[0] - x.min()], rows[x[1] - x.min()], beside, across[:, None, None])
    return (pixels.swapaxes(0, 1) + 64 >> 7).astype(np.uint8, "C")[None]


def coverage(low: Any, side: Any, place: Any, cell: float) -> Any:
    """The share of a cell of `cell` pixels around `place` that is inside low .. low + side, along one axis."""
    return (np.minimum(place + cell / 2, low + side) - np.maximum(place - cell / 2, low)).clip(0, cell) / cell


def padded(w: Any, h: Any) -> Any:
    """The side of the square of the same area as w x h with half of both sides' mean around it."""
    return np.sqrt((w + (w + h) / 2) * (h + (w + h) / 2))


class Tracker:
    """`init` on the first frame, `update` on every later one. frame: (H, W, 3) uint8 RGB; box: x, y, w, h in pixels."""

    def __init__(self, folder: Path, precision: str = "float32") -> None:
        try:
            self.c = c = dict(json.loads((folder / "tracker.json").read_text()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{folder / 'tracker.json'}: is no JSON object ({error})") from None
        for key, expected in (("model", ["mobile"]), ("format_version", [FORMAT_VERSION]), ("batch", [1, "dynamic"])):
            if c.get(key) not in expected:
                raise ValueError(f"{folder / 'tracker.json'}: {key} is {c.get(key)}, expected {expected[0]}")
        if precision not in c["graphs"]:
            raise ValueError(f"--precision: got {precision}, expected one of {', '.join(c['graphs'])}")
        self.template, self.net = (open_graph(folder / name, c) for name in c["graphs"][precision].values())
        self.places = c["stride"] * (c["margin"] + np.arange(c["cells"])) + 0.5  # of the cells, crop pixels
        hann = np.hanning(c["cells"] + 2)[1:-1]
        self.window = np.outer(hann, hann)

    def init(self, frame: Any, box: Any) -> None:
        """Take the target from the first frame. ValueError: the box is not in it."""
        x, y, w, h = map(float, box)
        fits = 1e-3 <= w <= 1e5 and 1e-3 <= h <= 1e5  # not nan
        if not (fits and -w < x < frame.shape[1] and -h < y < frame.shape[0]):
            size = f"{frame.shape[1]} x {frame.shape[0]}"
            raise ValueError(f"box: got {x:g},{y:g},{w:g},{h:g}, expected sides above 0, in the frame of {size}")
        c = self.c
        self.size = np.array([w, h])
        self.middle = np.array([x, y]) + self.size / 2
        self.fill = np.rint(frame.mean((0, 1)))
        sides = self.size * self.scale()
        inside = np.concatenate([(c["exemplar"] - sides) / 2, sides])[None].astype(np.float32)
        image = cut(frame, self.middle, c["exemplar"] / self.scale(), c["exemplar"], self.fill)
        values = self.template.run(None, {"image": image, "box": inside})
        self.target = {output.name: value for output, value in zip(self.template.get_outputs(), values, strict=True)}
        self.target["known"] = np.ones((1, c["regions"]), np.float32)
        self.stretch, self.turn = np.ones(2), -1
        best = self.search(frame)
        self.confidence, self.first_resemblance = 1.0, max(self.resemblance(best), 1e-6)
        # The box is known here: later boxes are corrected by a part of the network's error.
        self.stretch = np.clip(sides / best["size"], 0.5, 2.0) ** c["calibrate"]
        self.shift = np.clip((c["instance"] / 2 - best["middle"]) / best["size"], -0.5, 0.5) * c["calibrate"]

    def update(self, frame: Any) -> tuple[Any, float]:
        """The target's box in the next frame, and the confidence, 0 to 1."""
        c, scale = self.c, self.scale()
        best = self.search(frame)
        if best["quality"] < c["lost_confidence"] and c["places_per_frame"]:
            best = self.search_around(frame, best)
        else:
            self.turn = -1
        middle, size = best["middle"] + best["size"] * self.shift, best["size"] * self.stretch
        if c["regions"] > 1 and best["quality"] >= c["guide_confidence"]:
            self.remember(best["embedding"], middle, size)
        lost = best["quality"] < c["lost_confidence"]  # then it keeps its size: what hides it has another
        rate = 0.0 if lost else best["penalty"] * best["quality"] * c["size_lr"]
        height, width = frame.shape[:2]
        self.middle = np.clip(self.middle + (middle - c["instance"] / 2) / scale, 0, [width, height])
        size = (self.size * scale * (1 - rate) + size * rate) / scale
        self.size = np.clip(size, c["min_side"], np.maximum([width, height], c["min_side"]))
        sure = best["quality"] * min(1.0, self.resemblance(best) / self.first_resemblance)
        self.confidence = (self.confidence + sure) / 2
        return np.concatenate([self.middle - self.size / 2, self.size]), self.confidence

    def scale(self) -> float:
        """Crop pixels per frame pixel: the exemplar is the box with its context."""
        return self.c["exemplar"] / max(1.0, np.sqrt(np.prod(self.size + self.c["context_amount"] * self.size.sum())))

    def search(self, frame: Any) -> dict[str, Any]:
        """The network around the last place, and its best cell after penalties on changes of size and shape."""
        c = self.c
        image = cut(frame, self.middle, c["instance"] / self.scale(), c["instance"], self.fill)
        quality, boxes, resemblance, embedding = (v[0] for v in self.net.run(None, {"image": image, **self.target}))
        sides = np.maximum(boxes[2:] - boxes[:2], 1e-3)
        (w, h), area = sides * self.stretch.astype(np.float32)[:, None, None], sides.prod(0)
        last_w, last_h = (self.size * self.scale())[:, None, None]
        shape, grown = w / h * (last_h / last_w), padded(w, h) / padded(last_w, last_h)
        change = np.maximum(shape, 1 / shape) * np.maximum(grown, 1 / grown)
        penalty = np.exp((1 - change) * c["penalty_k"])
        i = np.unravel_index(
            (penalty * quality * (1 - c["window_influence"]) + self.window * c["window_influence"]).argmax(), w.shape
        )
        its = boxes[:, i[0], i[1], None, None]  # averaged with the boxes that overlap it
        shared = np.maximum(np.minimum(boxes[2:], its[2:]) - np.maximum(boxes[:2], its[:2]), 0).prod(0)
        overlap = shared / (area + area[i] - shared)
        weight = quality * overlap * (overlap >= c["agreeing_overlap"])
        weight[i] += 1e-9
        mean = boxes.reshape(4, -1).astype(np.float64) @ weight.ravel() / weight.sum(dtype=np.float64)
        best = {"middle": (mean[:2] + mean[2:]) / 2, "size": mean[2:] - mean[:2], "quality": float(quality[i])}
        return best | {"penalty": float(penalty[i]), "resemblance": resemblance, "embedding": embedding}

    def search_around(self, frame: Any, best: dict[str, Any]) -> dict[str, Any]:
        """The target is lost: search some places further away with every frame; move there if one shows it."""
        c, start, left = self.c, self.middle, self.c["places_per_frame"]
        for _ in c["lost_places"]:
            self.turn = (self.turn + 1) % len(c["lost_places"])
            step = c["lost_step"] * c["instance"] / self.scale()
            self.middle = start + np.multiply(c["lost_places"][self.turn], step)
            if (self.middle >= 0).all() and (self.middle < frame.shape[1::-1]).all():
                other = self.search(frame)
                if other["quality"] >= c["found_confidence"]:
                    return other
                left -= 1
            if not left:
                break
        self.middle = start
        return best

    def remember(self, embedding: Any, middle: Any, size: Any) -> None:
        """Let the region around the target in this frame's crop guide the next search."""
        c, n = self.c, self.c["region"]
        first = np.clip(np.rint((middle - 0.5) / c["stride"]).astype(int) - n // 2, 0, embedding.shape[1] - n)
        part = embedding[:, first[1] : first[1] + n, first[0] : first[0] + n].reshape(len(embedding), -1)
        length = np.maximum(np.sqrt(np.square(part).sum(0)), 1e-12)
        self.target["keys"][0, :, n * n :] = part * (c["sharpness"] / length)
        half = np.maximum(size / 2, 0.5)[:, None]
        place = c["stride"] * (first[:, None] + np.arange(n)) + 0.5 - middle[:, None]
        x, y = coverage(-half, 2 * half, place, c["stride"])
        across, down = np.clip(place / half, -2, 2)
        values = np.stack([np.outer(y, x), np.tile(across, (n, 1)), np.tile(down[:, None], n)])
        self.target["values"][0, n * n :, 3:] = values.reshape(3, -1).T

    def resemblance(self, best: dict[str, Any]) -> float:
        """How far the cells of the box resemble the template's target, 0 to 1."""
        low, size = best["middle"] - best["size"] / 2, best["size"]
        across, down = (coverage(low[i], size[i], self.places, self.c["stride"]) for i in (0, 1))
        return float(down @ best["resemblance"] @ across / max(down.sum() * across.sum(), 1e-9))


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
