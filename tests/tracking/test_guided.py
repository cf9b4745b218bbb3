"""The guided tracker: boxes and guidance, with a right, wrong or no guide; its command; bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from siamfast.cli import main
from siamfast.data.synthetic import SyntheticVideo
from siamfast.evaluation.metrics import overlap
from siamfast.models.guided import GuidedArchitecture, GuidedSiam, Prediction
from siamfast.models.guided_weights import DEFAULT_NAME
from siamfast.models.weights import default_weights, save_weights
from siamfast.tracking.guided import GuidedTracker
from siamfast.tracking.registry import Tracker


@pytest.fixture(scope="module")
def net() -> GuidedSiam:
    torch.manual_seed(0)
    return GuidedSiam(GuidedArchitecture(width=16)).eval()


@pytest.fixture(scope="module")
def weights(net: GuidedSiam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "guided.safetensors"
    save_weights(net, path, recipe="a test")
    return path


def frames(count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, 120, 160, 3), np.uint8)


class Oracle:
    """A stand-in for the network: the target is moved by `move` search pixels and `grow` times 64 pixels large."""

    def __init__(self, net: GuidedSiam, tracker: GuidedTracker, move: tuple[float, float], grow: float) -> None:
        self.template, self.move, self.grow = net.template, move, grow
        self.place = net.places(tracker.config.exemplar, tracker.config.instance) + 0.5
        tracker._model = self  # type: ignore[assignment]

    def __call__(self, template: Any, search: torch.Tensor, guidance: Any) -> Prediction:
        side = 64 * self.grow
        x, y = (torch.tensor(search.shape[-1] / 2 + m) for m in self.move)
        scores = -((self.place - x).square()[None, :] + (self.place - y).square()[:, None])[None] / 100
        boxes = torch.stack([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
        everywhere = boxes.view(1, 4, 1, 1).expand(1, 4, *scores.shape[1:])
        return Prediction(scores + 4, torch.full_like(scores, 9.0), everywhere)


def test_a_prediction_in_the_crop_becomes_a_box_in_the_frame(net: GuidedSiam) -> None:
    """A box of 30 x 30: its template window is 60 pixels, so a search pixel is 60 / 127 of a frame pixel."""
    tracker = GuidedTracker(net, precision="float32", window_influence=0.0, penalty_k=0.0, size_lr=1.0, calibrate=False)
    tracker.init(frames()[0], (60, 40, 30, 30))
    Oracle(net, tracker, (16.0, -24.0), 1.0)
    (x, y, w, h), confidence = tracker.update(frames()[1])
    scale = 127 / 60
    assert (x + w / 2 - 75, y + h / 2 - 55) == pytest.approx((16 / scale, -24 / scale), abs=1e-4)
    side = (1 - confidence) * 30 + confidence * 64 / scale  # smoothed by the score
    assert (w, h) == pytest.approx((side, side), abs=0.01)


def test_size_follows_at_its_rate_and_stays_in_bounds(net: GuidedSiam) -> None:
    for rate in (0.0, 0.5):
        tracker = GuidedTracker(net, precision="float32", size_lr=rate, penalty_k=0.0, calibrate=False)
        tracker.init(frames()[0], (60, 40, 30, 30))
        Oracle(net, tracker, (0.0, 0.0), 2.0)
        sides = [tracker.update(frames()[1]).box[2] for _ in range(12)]
        assert sides == sorted(sides)
        assert sides[0] == pytest.approx(30) if rate == 0 else sides[0] > 40
        assert max(sides) <= 160
        assert rate == 0 or sides[-1] == pytest.approx(160)
    tracker = GuidedTracker(net, precision="float32", size_lr=1.0, penalty_k=0.0, window_influence=0.0, calibrate=False)
    tracker.init(frames()[0], (60, 40, 30, 30))
    Oracle(net, tracker, (64.0, 0.0), 0.1)
    boxes = [tracker.update(frames()[1]).box for _ in range(12)]
    assert boxes[-1][2] == pytest.approx(10)
    assert boxes[-1][0] + 5 == pytest.approx(160)  # the center stays in the frame


def test_the_first_frames_prediction_calibrates_the_others(net: GuidedSiam) -> None:
    """A head that always predicts 1.5 times the size, a quarter of the box to the right, is right once calibrated."""
    for calibrate in (True, False):
        tracker = GuidedTracker(net, precision="float32", size_lr=1.0, penalty_k=0.0, calibrate=calibrate)
        oracle = Oracle(net, tracker, (24.0, 0.0), 1.5)
        tracker.init(frames()[0], (60, 40, 30, 30))
        oracle.move = (24.0, -16.0)
        (x, y, w, h), _ = tracker.update(frames()[1])
        assert (w, h) == pytest.approx((30, 30) if calibrate else (45, 45), rel=0.05)
        assert x + w / 2 == pytest.approx(75 + (0 if calibrate else 24 * 60 / 127), abs=0.3)
        assert y + h / 2 == pytest.approx(55 - 16 * 60 / 127, abs=0.3)


@pytest.mark.parametrize("guide", ["on", "off", "wrong"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_network_tracks_with_a_right_a_wrong_and_no_guide(net: GuidedSiam, guide: str, precision: str) -> None:
    tracker = GuidedTracker(net, guide=guide, precision=precision)
    boxes, times = tracker.track(list(frames()), (60, 40, 30, 20))
    assert boxes.shape == (4, 4)
    assert times.shape == (4,)
    assert np.isfinite(boxes).all()
    assert tracker.response.shape == (17, 17)
    if guide == "off":
        assert tracker.guidance is None
    else:
        assert tracker.guidance is not None
        assert tracker.guidance.shape == (28, 28)
        assert 0 < tracker.guidance.max() <= 1.001


def test_a_still_target_is_guided_to_its_place_and_a_wrong_guide_beside_it(net: GuidedSiam) -> None:
    image = SyntheticVideo(3, length=2).frame(0)
    for guide in ("on", "wrong"):
        tracker = GuidedTracker(net, guide=guide, precision="float32").init(image, (200, 150, 60, 60))
        tracker.update(image)
        assert tracker.guidance is not None
        weight = (tracker.guidance > 0.5) / (tracker.guidance > 0.5).sum()
        across = float((weight.sum(0) * np.arange(28)).sum())
        assert abs(across - 13.5) < 1.0 if guide == "on" else across > 19


def test_the_command_tracks_with_it_and_shows_the_guidance(weights: Path, tmp_path: Path) -> None:
    for number, image in enumerate(frames()):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    out = tmp_path / "out.mp4"
    words = ["track", str(tmp_path), "--box", "60,40,30,20", "--weights", str(weights), "--out", str(out)]
    assert main([*words, "--show-guidance", "--response", "--csv", str(tmp_path / "boxes.csv")]) == 0
    rows = (tmp_path / "boxes.csv").read_text().splitlines()
    assert len(rows) == 5
    assert out.stat().st_size > 0
    assert main(["track", str(tmp_path), "--box", "60,40,30,20", "--show-guidance"]) == 2


def test_weights_name_their_tracker(weights: Path) -> None:
    assert Tracker(weights).name == "siamfast-SiamGuided"
    assert Tracker(model="siamfc").name == "siamfast-SiamFC"
    with pytest.raises(ValueError, match="model: got 'x'"):
        Tracker(model="x")
    with pytest.raises(ValueError, match="holds the architecture 'siam-guided', expected 'siamfc-alexnet'"):
        Tracker(weights, model="siamfc")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"guide": "maybe"}, "guide: got 'maybe'"),
        ({"instance": 50}, "instance: got 50"),
        ({"size_lr": 2}, "size_lr: got 2"),
        ({"penalty_k": "x"}, "penalty_k: got 'x'"),
        ({"speed": 1}, "unknown arguments speed"),
        ({"precision": "int8"}, "precision: got 'int8'"),
        ({"instance": 140}, "search: got 140 pixels"),
    ],
)
def test_bad_values_are_named(net: GuidedSiam, fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        GuidedTracker(net, **fields)


def test_the_packaged_weights_track_synthetic_clips() -> None:
    """The shipped weights track even with a wrong guide, and better with a guide than without."""
    assert default_weights(DEFAULT_NAME).stat().st_size < 8e6

    def mean_overlap(seed: int, guide: str) -> float:
        video = SyntheticVideo(seed, length=25)
        truth = np.array([video.box(t) for t in range(25)])
        boxes, _ = GuidedTracker(guide=guide).track([video.frame(t) for t in range(25)], truth[0])
        return float(overlap(boxes, truth)[1:].mean())

    assert mean_overlap(1000, "on") > 0.7  # measured: .83
    assert mean_overlap(1000, "wrong") > 0.65  # .81
    assert mean_overlap(1003, "on") > mean_overlap(1003, "off")  # .56, .50


def test_update_before_init_is_an_error(net: GuidedSiam) -> None:
    tracker = GuidedTracker(net)
    with pytest.raises(RuntimeError, match="init"):
        tracker.update(frames()[0])
    with pytest.raises(RuntimeError, match="init"):
        _ = tracker.response
    with pytest.raises(ValueError, match="is outside"):
        tracker.init(frames()[0], (500, 500, 10, 10))
