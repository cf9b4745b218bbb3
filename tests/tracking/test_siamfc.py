"""The tracker follows targets, stays bounded, equals siamfc-pytorch on its weights; its command writes its outputs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import siamfast
from benchmarks.peers.siamfc_tracker import CommunityTracker
from siamfast.commands.track import add_arguments, run
from siamfast.data.sequences import read_sequences
from siamfast.data.synthetic import SyntheticVideo
from siamfast.evaluation.metrics import center_error, overlap, precision_curve, score, success_curve
from siamfast.io.video import read_image
from siamfast.models.siamfc import SiamFC
from siamfast.models.siamfc_weights import load_model
from siamfast.models.weights import save_weights
from siamfast.ops.crop_and_resize import crop_and_resize
from siamfast.tracking.opencv_crops import opencv_crops
from siamfast.tracking.siamfc import SiamFCTracker

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not (SHARED / "sequences").is_dir(), reason="the shared real sequences are not here")


@pytest.fixture(scope="module")
def model() -> SiamFC:
    """Random weights: cross-correlation of random features finds an unchanged patch already."""
    torch.manual_seed(0)
    return SiamFC(input_mean=118.0, input_std=60.0).eval()


def moving_square(frames: int = 10, step: int = 4) -> tuple[list[np.ndarray], np.ndarray]:
    """Noise with a textured patch that moves `step` px per frame, and its boxes."""
    rng = np.random.default_rng(0)
    background = cv2.GaussianBlur(rng.integers(0, 90, (160, 240, 3), dtype=np.uint8), (0, 0), 3)
    patch = cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (36, 36), interpolation=cv2.INTER_NEAREST)
    images, boxes = [], []
    for t in range(frames):
        image = background.copy()
        image[60:96, 60 + step * t : 96 + step * t] = patch
        images.append(image)
        boxes.append([60 + step * t, 60, 36, 36])
    return images, np.array(boxes, dtype=float)


def test_tracker_follows_a_moving_patch(model: SiamFC) -> None:
    images, boxes = moving_square()
    track, times = SiamFCTracker(model).track(images, boxes[0])
    assert overlap(track, boxes).mean() > 0.7
    assert center_error(track, boxes).max() < 8
    assert times.shape == (10,)


def test_confidences_of_a_sequence_equal_those_of_its_updates(model: SiamFC) -> None:
    images, boxes = moving_square(4)
    tracker = SiamFCTracker(model)
    assert tracker.confidences is None
    tracker.track(images, boxes[0])
    confidences = tracker.confidences
    tracker.init(images[0], boxes[0])
    assert confidences is not None
    assert confidences.tolist() == [1.0, *(tracker.update(image).confidence for image in images[1:])]


def test_pil_images_and_strided_views_track_alike(model: SiamFC) -> None:
    from PIL import Image

    images, boxes = moving_square(4)
    plain, _ = SiamFCTracker(model).track(images, boxes[0])
    for variant in ([Image.fromarray(i) for i in images], [i[..., ::-1].copy()[..., ::-1] for i in images]):
        np.testing.assert_array_equal(SiamFCTracker(model).track(variant, boxes[0])[0], plain)


def test_two_runs_give_the_same_boxes(model: SiamFC) -> None:
    images, boxes = moving_square(5)
    first, second = (SiamFCTracker(model).track(images, boxes[0])[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "box", [(0, 0, 3, 3), (-20, -10, 40, 40), (230, 150, 30, 30), (100, 2, 2, 150), (0, 0, 240, 160)]
)
def test_on_noise_the_box_stays_bounded(model: SiamFC, box: tuple[float, ...]) -> None:
    """Every frame is new noise: size stays within 0.2 to 5 of the first, the center in the frame, all is finite."""
    rng = np.random.default_rng(1)
    tracker = SiamFCTracker(model, scale_step=1.5, scale_lr=1.0, scale_penalty=1.0)
    tracker.init(rng.integers(0, 256, (160, 240, 3), dtype=np.uint8), box)
    for _ in range(12):
        (x, y, w, h), confidence = tracker.update(rng.integers(0, 256, (160, 240, 3), dtype=np.uint8))
        assert np.isfinite([x, y, w, h]).all()
        assert 0.2 - 1e-9 <= w / box[2] <= 5 + 1e-9
        assert 0 <= x + (w - 1) / 2 <= 239
        assert 0 <= y + (h - 1) / 2 <= 159
        assert 0 <= confidence <= 1


def test_confidence_falls_when_the_target_is_gone(model: SiamFC) -> None:
    images, boxes = moving_square(3, step=0)
    tracker = SiamFCTracker(model).init(images[0], boxes[0])
    confidence = tracker.update(images[1]).confidence
    background = images[2].copy()
    background[60:96, 60:96] = background[110:146, 60:96]
    assert tracker.update(background).confidence < 0.8 * confidence


def test_update_before_init_is_an_error(model: SiamFC) -> None:
    with pytest.raises(RuntimeError, match="call init"):
        SiamFCTracker(model).update(np.zeros((9, 9, 3), np.uint8))


@pytest.mark.parametrize(
    ("image", "box", "error"),
    [
        (np.zeros((50, 50, 3), np.uint8), (60, 10, 5, 5), ValueError),
        (np.zeros((50, 50, 3), np.uint8), (10, 10, 0, 5), ValueError),
        (np.zeros((50, 50, 3), np.uint8), (np.nan, 10, 5, 5), ValueError),
        (np.zeros((50, 50, 3), np.uint8), (1, 2, 3), ValueError),
        (np.zeros((50, 50, 3), np.float32), (1, 2, 3, 4), TypeError),
        ("image.png", (1, 2, 3, 4), TypeError),
    ],
)
def test_bad_first_frames_are_named(model: SiamFC, image: Any, box: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"box|image"):
        SiamFCTracker(model).init(image, box)


def test_bad_hyper_parameters_are_named(model: SiamFC) -> None:
    with pytest.raises(TypeError, match="unknown arguments scale_stop"):
        SiamFCTracker(model, scale_stop=1)
    with pytest.raises(ValueError, match="scales: got 2, expected an odd number"):
        SiamFCTracker(model, scales=2)


@needs_shared
@pytest.mark.parametrize(("name", "published"), [("Crossing", 0.785), ("tennis", 0.655)])
def test_the_original_weights_track_as_siamfc_pytorch_does(name: str, published: float) -> None:
    """AO over the first 200 frames; the README of the shared data has siamfc-pytorch's."""
    (sequence,) = (s for s in read_sequences(SHARED / "sequences") if s.name == name)
    sequence = sequence.first(min(200, len(sequence)))
    boxes, _ = SiamFCTracker(SHARED / "weights" / "siamfc3s_color.pth").track(sequence.frames, sequence.boxes[0])
    assert np.nanmean(overlap(boxes, sequence.boxes)) > published - 0.01


@needs_shared
def test_float32_boxes_are_the_peers() -> None:
    """siamfc-pytorch's tracker rewritten, with grouped convolution and OpenCV crops, gives the same boxes per frame.

    With our crops, which round exactly where OpenCV has weights of 11 bits, another scale may win a near tie.
    """
    (sequence,) = (s for s in read_sequences(SHARED / "sequences") if s.name == "Man")
    sequence = sequence.first(30)
    weights = SHARED / "weights" / "siamfc3s_color.pth"
    peer, theirs = CommunityTracker(load_model(weights)), [sequence.boxes[0]]
    peer.init(read_image(sequence.frames[0]), sequence.boxes[0])
    theirs += [peer.update(read_image(path)) for path in sequence.frames[1:]]
    for crops, pixels in (("opencv", 0.01), ("siamfast", 2.0)):
        ours, _ = SiamFCTracker(weights, precision="float32", crops=crops).track(sequence.frames, sequence.boxes[0])
        assert np.abs(ours - np.stack(theirs)).max() < pixels, crops


@pytest.mark.parametrize("place", [(30.0, 20.0), (2.5, 3.5), (58.0, 39.0), (-90.0, 10.0)])
def test_crops_by_opencv_differ_by_a_grey_level_at_most(place: tuple[float, float]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    centers, sides, fill = np.array([place] * 3), np.array([7.0, 20.4, 51.5]), np.array([9.0, 120.0, 201.0])
    theirs = opencv_crops(frame, centers, sides, 31, fill)
    ours = crop_and_resize(frame, centers, sides, 31, fill=fill, rounding="siamfc-pytorch")
    assert np.abs(theirs.astype(int) - ours).max() <= 1


def test_an_unknown_kind_of_crops_is_named(model: SiamFC) -> None:
    with pytest.raises(ValueError, match="crops: got 'cv2', expected 'siamfast' or 'opencv'"):
        SiamFCTracker(model, crops="cv2")


# ------------------------------------------------------------------------------------------------------------- command
@pytest.fixture
def weights(tmp_path_factory: pytest.TempPathFactory, model: SiamFC) -> str:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(model, path, recipe="random")
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images, _ = moving_square(6)
    (tmp_path / "in").mkdir()
    for t, image in enumerate(images):
        cv2.imwrite(str(tmp_path / "in" / f"{t}.png"), image[..., ::-1])
    return tmp_path / "in"


def _run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(list(words)))


def test_command_writes_boxes_and_video(tmp_path: Path, folder: Path, weights: str) -> None:
    out, csv = tmp_path / "o.mp4", tmp_path / "b.csv"
    words = [str(folder), "--box=60,60,36,36", f"--out={out}", f"--csv={csv}", f"--weights={weights}", "--response"]
    assert _run(*words) == 0
    rows = csv.read_text().splitlines()
    assert rows[0] == "frame,x,y,w,h,confidence,lost"
    assert [row.split(",")[0] for row in rows[1:]] == [str(t) for t in range(6)]
    video = cv2.VideoCapture(str(out))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 6
    # The written video is a valid input.
    assert _run(str(out), "--box=60,60,36,36", f"--csv={csv}", f"--weights={weights}") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.csv", "in", "o.mp4"]


def test_undecodable_frames_are_skipped_and_counted(
    tmp_path: Path, folder: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "3.png").write_bytes(b"broken")
    csv = tmp_path / "b.csv"
    assert _run(str(folder), "--box=60,60,36,36", f"--csv={csv}", f"--weights={weights}") == 0
    assert [row.split(",")[0] for row in csv.read_text().splitlines()[1:]] == ["0", "1", "2", "4", "5"]
    assert "1 frames could not be decoded and were skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": "nowhere.mp4"}, "no such file"),
        ({"input": "EMPTY"}, "empty"),
        ({"input": "TEXT"}, "text.mp4"),
        ({"box": "1,2,3"}, "--box: got '1,2,3'"),
        ({"box": "900,900,10,10"}, "box"),
        ({"box": "10,10,0,10"}, "box"),
        ({"box": None}, "--box: give it as x,y,w,h"),
        ({"weights": "nowhere.pth"}, "weights: nowhere.pth is not a file"),
        ({"weights": "OTHER"}, "another architecture"),
        ({"out": "/nowhere/o.mp4"}, "cannot write"),
        ({"out": "o.xyz"}, "expected a name ending in"),
        ({"device": "tpu9"}, "device: got 'tpu9'"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(
    tmp_path: Path, folder: Path, weights: str, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    torch.save({"layer1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    files = {"EMPTY": tmp_path / "empty.mp4", "TEXT": tmp_path / "text.mp4", "OTHER": tmp_path / "other.pth"}
    given: dict[str, Any] = {
        "input": str(folder),
        "box": "60,60,36,36",
        "weights": weights,
        "out": str(tmp_path / "o.mp4"),
    }
    given |= {k: str(files.get(v, v)) if v is not None else None for k, v in change.items()}
    before = sorted(tmp_path.rglob("*"))
    words = [given.pop("input"), *(f"--{k}={v}" for k, v in given.items() if v is not None)]
    with pytest.raises((ValueError, OSError), match=message):
        _run(*words)
    assert sorted(tmp_path.rglob("*")) == before


# ---------------------------------------------------------------------------------------------------------- evaluation
def test_overlap_is_intersection_over_union() -> None:
    overlaps = overlap(
        [[0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 1, 1], [0, 0, 10, 10]],
        [[5, 0, 10, 10], [20, 20, 5, 5], [np.nan] * 4, [0, 0, 10, 10]],
    )
    np.testing.assert_allclose(overlaps, [1 / 3, 0, np.nan, 1])


def test_scores_count_frames_with_a_ground_truth() -> None:
    truth = [[0, 0, 10, 10], [np.nan] * 4, [0, 0, 10, 10]]
    figures = score([[0, 0, 10, 10], [0, 0, 1, 1], [5, 0, 10, 10]], truth)
    assert figures.frames == 2
    assert figures.ao == pytest.approx(2 / 3)
    assert figures.sr50 == 0.5


def test_curves_are_strict_above_and_inclusive_within() -> None:
    np.testing.assert_allclose(success_curve([0.5, 1.0], [0.5, 0.4]), [0.5, 1.0])
    np.testing.assert_allclose(precision_curve([20.0, 21.0], [20.0]), [0.5])


def test_default_weights_track_unseen_synthetic_video() -> None:
    """The packaged weights, on clips of seeds that training never draws: most targets are kept."""
    overlaps = []
    for seed in range(5):
        clip = SyntheticVideo(seed, length=21)
        images, truth = zip(*clip, strict=True)
        boxes, _ = siamfast.SiamFCTracker().track(images, truth[0])
        overlaps.append(overlap(boxes, np.stack(truth)).mean())
    assert np.median(overlaps) > 0.5
