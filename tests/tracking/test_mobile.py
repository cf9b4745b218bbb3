"""The mobile tracker: a prediction becomes a box, both engines agree, bad options are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import siamfast
from siamfast.cli import main
from siamfast.commands import export
from siamfast.data import textures
from siamfast.data.synthetic import SyntheticVideo
from siamfast.evaluation.metrics import overlap
from siamfast.instructions import int8_missing
from siamfast.models.mobile import INSTANCE, REGION, MobileArchitecture, SiamMobile
from siamfast.models.mobile_engine import Search, region_start
from siamfast.models.mobile_onnx import onnxruntime_missing
from siamfast.models.weights import save_weights
from siamfast.tracking.mobile import MobileTracker

onnxruntime = pytest.importorskip("onnxruntime")


pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def net() -> SiamMobile:
    torch.manual_seed(0)
    model = SiamMobile(MobileArchitecture(width=16, blocks=1))
    for layer in (model.score, model.centerness, model.sides):  # an untrained head predicts nearly the same everywhere
        nn.init.normal_(layer.weight, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def weights(net: SiamMobile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with both graphs beside them."""
    path = tmp_path_factory.mktemp("weights") / "mobile.safetensors"
    save_weights(net, path, recipe="a test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_CLIPS", 2)  # that calibrate 8 bits
        assert main(["export", str(path)]) == 0
    return path


def frames(count: int = 4, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (count, 120, 160, 3), np.uint8)


class Oracle:
    """A stand-in for an engine: the target is moved by `move` search pixels and `grow` times 64 pixels large."""

    name, precision, uploads = "oracle", "float32", None

    def __init__(self, move: tuple[float, float], grow: float, confidence: float = 1.0) -> None:
        self.move, self.side, self.confidence = np.array(move), 64 * grow, confidence
        self.resemblance = 1.0
        self.guided: list[bool] = []
        self.remembered: list[NDArray[np.float64]] = []

    def add(self, crops: NDArray[np.uint8], boxes: NDArray[np.float64]) -> None:
        self.crop, self.box = crops, boxes[0]

    def keep(self, rows: NDArray[np.int_]) -> None:
        assert not len(rows)

    def search(self, crops: NDArray[np.uint8], rows: NDArray[np.int_], *, guided: bool) -> Search:
        self.guided.append(guided)
        place = SiamMobile.places(crops.shape[1]).numpy() + 0.5
        x, y = crops.shape[1] / 2 + self.move
        quality = self.confidence * np.exp(-((place - x) ** 2 + (place - y)[:, None] ** 2) / 5000)
        box = np.array([x - self.side / 2, y - self.side / 2, x + self.side / 2, y + self.side / 2])
        boxes = np.broadcast_to(box[:, None, None], (4, *quality.shape))
        maps = (quality, boxes, np.full_like(quality, self.resemblance))
        return Search(*(each.astype(np.float32)[None] for each in maps), [None])

    def remember(self, rows: NDArray[np.int_], embedding: list[Any], boxes: NDArray[np.float64]) -> None:
        self.remembered += list(boxes)


def with_oracle(net: SiamMobile, oracle: Oracle, **fields: Any) -> MobileTracker:
    tracker = MobileTracker(net, precision="float32", **fields)
    tracker.runner = oracle  # type: ignore[assignment]
    return tracker


def test_a_prediction_in_the_crop_becomes_a_box_in_the_frame(net: SiamMobile) -> None:
    """A box of 30 x 30: its template window is 60 pixels, so a crop pixel is 60 / 129 of a frame pixel."""
    oracle = Oracle((16.0, -8.0), 1.2)
    tracker = with_oracle(
        net, oracle, context_amount=0.5, calibrate=0.0, window_influence=0.0, penalty_k=0.0, size_lr=1.0
    )
    tracker.init(frames()[0], (60, 40, 30, 30))
    assert oracle.crop.shape == (1, 129, 129, 3)
    np.testing.assert_allclose(oracle.box, [32.25, 32.25, 64.5, 64.5])
    box, _ = tracker.update(frames()[1])
    factor, side = 60 / 129, 64 * 1.2 * 60 / 129
    grown = 30 + (side - 30) * float(tracker.response.max())
    np.testing.assert_allclose(
        box, [75 + 16 * factor - grown / 2, 55 - 8 * factor - grown / 2, grown, grown], atol=1e-4
    )


def test_confidence_is_quality_times_resemblance_averaged_with_the_last_one(net: SiamMobile) -> None:
    oracle = Oracle((0.0, 0.0), 1.0)
    oracle.resemblance = 0.8
    tracker = with_oracle(net, oracle).init(frames()[0], (60, 40, 30, 30))
    confidence = 1.0
    for resemblance, quality in ((0.8, 1.0), (0.4, 1.0), (0.4, 0.5), (0.9, 0.5), (0.0, 1.0)):
        oracle.resemblance, oracle.confidence = resemblance, quality
        confidence = (confidence + quality * min(1.0, resemblance / 0.8)) / 2
        assert tracker.update(frames()[1]).confidence == pytest.approx(confidence, abs=1e-5)


def test_the_guide_is_taken_from_a_confident_frame(net: SiamMobile) -> None:
    confident, doubtful, wrong, off = (Oracle((0, 0), 1.0, confidence) for confidence in (0.9, 0.2, 0.9, 0.9))
    for oracle, guide in ((confident, "on"), (doubtful, "on"), (wrong, "wrong"), (off, "off")):
        tracker = with_oracle(net, oracle, guide=guide)
        tracker.init(frames()[0], (60, 40, 30, 30))
        tracker.update(frames()[1])
    assert len(confident.remembered) == 1
    assert not doubtful.remembered
    np.testing.assert_allclose(wrong.remembered[0], confident.remembered[0] + [confident.remembered[0][2], 0, 0, 0])
    assert not off.remembered
    # The first frame is evaluated once, to calibrate.
    assert (confident.guided, off.guided) == ([True, True], [False, False])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_calibration_corrects_the_first_frames_error(net: SiamMobile, share: float) -> None:
    """A network that predicts twice the width, a quarter of it to the right: full correction restores the box; without
    correction the box is the network's."""
    oracle = Oracle((16.0, 0.0), 2.0)
    tracker = with_oracle(
        net, oracle, context_amount=0.5, calibrate=share, window_influence=0.0, penalty_k=0.0, size_lr=0.0
    )
    tracker.init(frames()[0], (60, 40, 30, 30))
    tracker.update(frames()[1])
    np.testing.assert_allclose(oracle.remembered[0][2:], 128 * (64.5 / 128) ** share, rtol=1e-4)
    middle = oracle.remembered[0][:2] + oracle.remembered[0][2:] / 2
    np.testing.assert_allclose(middle, [INSTANCE / 2 + 16 * (1 - share), INSTANCE / 2], atol=1e-4)


def test_the_region_surrounds_the_box_within_the_crop() -> None:
    # The middle at pixel 96: cell 12 of 25, whose region begins half a region before it.
    boxes = np.array([[64.5, 32.5, 64, 64], [-90.0, 300, 64, 64]])
    starts = [[12 - REGION // 2, 8 - REGION // 2], [0, 25 - REGION]]
    np.testing.assert_array_equal(region_start(boxes, 25), starts)


@pytest.mark.parametrize("guide", ["on", "off"])
def test_both_engines_give_the_same_boxes(weights: Path, guide: str) -> None:
    """In float32: optimized graphs sum in another order, which may move the boxes of an untrained network only by a
    part of a pixel."""
    video = SyntheticVideo(3, length=12, size=(120, 160))
    tracks_by_engine = {}
    for engine in ("torch", "onnxruntime"):
        tracker = MobileTracker(weights, engine=engine, precision="float32", guide=guide)
        assert (tracker.engine, tracker.precision) == (engine, "float32")
        tracker.init(video.frame(0), video.box(0))
        tracks_by_engine[engine] = [tracker.update(video.frame(t)) for t in range(1, 12)]
    boxes = [np.array([track.box for track in tracks]) for tracks in tracks_by_engine.values()]
    np.testing.assert_allclose(*boxes, atol=0.5)
    np.testing.assert_allclose(*([t.confidence for t in tracks] for tracks in tracks_by_engine.values()), atol=1e-2)


@pytest.mark.skipif(int8_missing() is not None, reason="this CPU has no VNNI")
def test_int8_boxes_stay_close(weights: Path) -> None:
    video = SyntheticVideo(3, length=2, size=(120, 160))
    quality = {}
    for precision in ("float32", "int8"):
        tracker = MobileTracker(weights, device="cpu", precision=precision).init(video.frame(0), video.box(0))
        assert (tracker.engine, tracker.precision) == ("onnxruntime", precision)
        tracker.update(video.frame(1))
        quality[precision] = tracker.response
    assert MobileTracker(weights, device="cpu").precision == "int8"  # the choice of "auto"
    assert np.abs(quality["int8"] - quality["float32"]).mean() < 0.1


def test_the_packaged_weights_follow_a_target() -> None:
    """A clip that the demo does not show; .85 on the machine that the weights were trained on."""
    video = SyntheticVideo(21, length=25, size=(240, 320))
    tracker = siamfast.Tracker()
    assert isinstance(tracker, siamfast.MobileTracker)
    boxes, _ = tracker.track([video.frame(t) for t in range(25)], video.box(0))
    assert overlap(boxes, np.array([video.box(t) for t in range(25)])).mean() > 0.6


@pytest.mark.parametrize(("places", "recovers"), [(2, True), (0, False)])
def test_a_target_that_returns_elsewhere_is_recovered(places: int, recovers: bool) -> None:
    """A round thing lies still, is gone for five frames, and is then on the other side of the frame."""
    rng = np.random.default_rng(0)
    empty = cv2.resize(np.clip(textures.fractal(rng) * 25 + 110, 0, 255), (480, 360)).astype(np.uint8)
    target = cv2.resize(np.clip(textures.dead_leaves(rng) * 70 + 128, 0, 255)[:96, :96], (48, 48)).astype(np.uint8)
    disc = cv2.circle(np.zeros((48, 48), np.uint8), (24, 24), 23, 1, -1) > 0

    def frame(x: int, y: int) -> NDArray[np.uint8]:
        shown = empty.copy()
        shown[y : y + 48, x : x + 48][disc] = target[disc]
        return shown

    tracker = MobileTracker(places_per_frame=places).init(frame(60, 60), (60, 60, 48, 48))
    seen = tracker.update(frame(62, 60))
    assert seen.confidence > 0.5
    assert not tracker.lost
    for _ in range(5):  # its confidence is halved with every frame
        gone = tracker.update(empty)
        assert gone.box[2:] == pytest.approx(seen.box[2:], rel=1e-12)  # what is in its place has another size
    assert gone.confidence < 0.1
    assert tracker.lost
    for _ in range(40):  # two places per frame: searching all of it takes 30 frames
        last = tracker.update(frame(330, 250))
    assert (last.confidence > 0.5) == recovers == (not tracker.lost)
    assert (np.abs(np.subtract(last.box, (330, 250, 48, 48))).max() < 8) == recovers


# ----------------------------------------------------------------------------------------------------------- bad input
def test_a_graph_with_other_weights_is_refused(weights: Path, net: SiamMobile, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_weights(net, other, recipe="another")
    for suffix in (".onnx", ".template.onnx"):
        (tmp_path / f"other{suffix}").write_bytes(weights.with_suffix(suffix).read_bytes())
    with pytest.raises(ValueError, match="was made of other weights than .*siamfast export"):
        MobileTracker(other, device="cpu")
    assert MobileTracker(other, engine="torch").engine == "torch"


@pytest.mark.parametrize("change", ["an output less", "an input more"])
def test_a_graph_of_another_version_is_refused(change: str, weights: Path, net: SiamMobile, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(weights.with_suffix(".onnx"))
    if change == "an output less":
        del graph.graph.output[2]
    else:
        graph.graph.input.append(graph.graph.input[-1])
        graph.graph.input[-1].name = "more"
    other = tmp_path / "mobile.safetensors"
    other.write_bytes(weights.read_bytes())
    onnx.save(graph, other.with_suffix(".onnx"))
    with pytest.raises(
        ValueError, match=r"engine: .*mobile.onnx is another graph .* siamfast export .*mobile.safetensors"
    ):
        MobileTracker(other, device="cpu")


def test_a_damaged_graph_is_named(weights: Path, net: SiamMobile, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_weights(net, other, recipe="another")
    (tmp_path / "other.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match="engine: onnxruntime cannot load .*other.onnx"):
        MobileTracker(other, device="cpu")
    copy = tmp_path / "copy.safetensors"
    for suffix in (".safetensors", ".onnx"):
        copy.with_suffix(suffix).write_bytes(weights.with_suffix(suffix).read_bytes())
    with pytest.raises(ValueError, match="engine: .*copy.template.onnx is missing: run siamfast export"):
        MobileTracker(copy, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"engine": "tensorrt"}, "engine: got 'tensorrt', expected one of auto, torch, onnxruntime"),
        ({"engine": "onnxruntime", "instance": 257}, "the graph is of search crops of"),
        ({"engine": "onnxruntime", "precision": "bfloat16"}, "not in bfloat16"),
        ({"instance": 250}, "search: got 250"),
        ({"window_influence": 2}, "window_influence: got 2"),
        ({"guide": "left"}, "guide: got 'left', expected one of on, off, wrong"),
    ],
)
def test_bad_options_are_named(weights: Path, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MobileTracker(weights, **arguments)


def test_without_a_graph_pytorch_runs(net: SiamMobile, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_weights(net, path, recipe="a test")
    assert MobileTracker(path).engine == "torch"
    missing = onnxruntime_missing(path, INSTANCE)
    assert missing is not None
    assert "siamfast export writes it" in missing
    with pytest.raises(ValueError, match="siamfast export writes it"):
        MobileTracker(path, engine="onnxruntime")


def test_onnxruntime_is_for_the_cpu_also_where_a_gpu_would_be_chosen(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    tracker = MobileTracker(weights, engine="onnxruntime", precision="float32")
    assert (tracker.engine, tracker.device.type) == ("onnxruntime", "cpu")
    with pytest.raises(ValueError, match="onnxruntime', but it runs on the CPU only, not on 'meta'"):
        MobileTracker(weights, engine="onnxruntime", device="meta")


def test_update_before_init_is_an_error(net: SiamMobile) -> None:
    tracker = MobileTracker(net)
    with pytest.raises(RuntimeError, match="call init"):
        tracker.update(frames()[0])
    with pytest.raises(RuntimeError, match="call init"):
        _ = tracker.response
    with pytest.raises(TypeError, match="MobileTracker: unknown arguments scales"):
        MobileTracker(net, scales=3)
