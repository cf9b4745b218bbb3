"""OpenCV's trackers as peers: NanoTrack from the user's files, torch's thread count, errors in one line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from siamfast.cli import main
from siamfast.evaluation import opencv_trackers
from siamfast.evaluation.metrics import overlap
from siamfast.evaluation.one_pass import Entry, peer_entries
from siamfast.evaluation.opencv_trackers import OpenCVTracker, find_nano_models

SIDE = 60  # sides of the red square, in pixels


@pytest.fixture
def red_seeker(tmp_path: Path) -> Path:
    """NanoTrack's two files with a network that a test can reason about: the score of a cell is its red minus its blue,
    and the predicted box is as large as the template's at all cells."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper

    def constant(name: str, values: np.ndarray) -> object:
        return onnx.numpy_helper.from_array(values.astype(np.float32), name)

    def write(name: str, nodes: list, inputs: dict, outputs: dict, constants: list) -> None:
        def described(shapes: dict) -> list:
            return [make.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n, shape in shapes.items()]

        graph = make.make_graph(nodes, name, described(inputs), described(outputs), constants)
        model = make.make_model(graph, opset_imports=[make.make_opsetid("", 11)], ir_version=8)
        onnx.save(model, str(tmp_path / "nano" / name))

    (tmp_path / "nano").mkdir()
    # RGB. The mean over 64 x 64 pixels, as large as the square is in the crop; cell i is around pixel 16 i - 1, where
    # OpenCV takes it to be.
    redness = np.stack([np.full((64, 64), v / 4096) for v in (1, 0, -1)])[None]
    layout = {"kernel_shape": [64, 64], "strides": [16, 16], "pads": [33, 33, 16, 16]}
    write(
        "nanotrack_backbone_sim.onnx",
        [make.make_node("Conv", ["input", "redness"], ["output"], **layout)],
        {"input": [1, 3, "h", "w"]},
        {"output": [1, 1, "h_out", "w_out"]},
        [constant("redness", redness)],
    )
    half = SIDE / 2 * 127 / (2 * SIDE)  # the window of the template is twice the side of a square target
    write(
        "nanotrack_head_sim.onnx",
        [
            make.make_node("GlobalAveragePool", ["input1"], ["template"]),
            make.make_node("Mul", ["template", "zero"], ["nothing"]),
            make.make_node("Add", ["input2", "nothing"], ["both"]),
            make.make_node("Conv", ["both", "classes"], ["output1"], kernel_shape=[1, 1]),
            make.make_node("Conv", ["both", "sides", "half"], ["output2"], kernel_shape=[1, 1]),
        ],
        {"input1": [1, 1, 8, 8], "input2": [1, 1, 16, 16]},
        {"output1": [1, 2, 16, 16], "output2": [1, 4, 16, 16]},
        [
            constant("zero", np.zeros((1, 1, 1, 1))),
            constant("classes", np.array([-0.005, 0.005]).reshape(2, 1, 1, 1)),
            constant("sides", np.zeros((4, 1, 1, 1))),
            constant("half", np.full(4, half)),
        ],
    )
    return tmp_path / "nano"


@pytest.fixture
def red_square(tmp_path: Path) -> tuple[list[str], np.ndarray]:
    """Frames with a moving red square and a still blue one, and the red one's boxes (T, 4)."""
    boxes = np.array([[100.0 + 5 * t, 80 + 3 * t, SIDE, SIDE] for t in range(12)])
    paths = []
    for t, (x, y, w, h) in enumerate(boxes.astype(int)):
        frame = np.full((240, 320, 3), 90, np.uint8)
        frame[80 : 80 + h, 30 : 30 + w] = (220, 40, 40)  # BGR, as OpenCV writes it
        frame[y : y + h, x : x + w] = (40, 40, 220)
        paths.append(str(tmp_path / f"{t:03d}.png"))
        cv2.imwrite(paths[-1], frame)
    return paths, boxes


def test_nanotrack_tracks_with_the_users_models_in_the_right_channel_order(
    red_seeker: Path, red_square: tuple[list[str], np.ndarray]
) -> None:
    """With swapped channels red would score lowest, and the tracker would avoid it."""
    paths, boxes = red_square
    tracker = OpenCVTracker("nanotrack", red_seeker)
    track, times = tracker.track(paths, boxes[0])
    assert track.shape == (12, 4)
    assert tracker.confidences is not None
    assert tracker.confidences.shape == (12,)
    assert (tracker.confidences > 0.5).all()
    assert (times > 0).all()
    np.testing.assert_array_equal(track[0], boxes[0])
    assert overlap(track, boxes).min() > 0.5


def test_opencv_uses_torchs_thread_count_and_restores_its_own(
    red_square: tuple[list[str], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, boxes = red_square
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    threads = []
    real = opencv_trackers.read_image
    monkeypatch.setattr(opencv_trackers, "read_image", lambda path: threads.append(cv2.getNumThreads()) or real(path))
    before = cv2.getNumThreads()
    tracker = OpenCVTracker("mil")
    tracker.track(paths[:2], boxes[0])
    assert tracker.confidences is None
    assert threads == [3, 3]
    assert cv2.getNumThreads() == before


def test_eval_runs_nanotrack_beside_ours_and_reuses_its_results(
    red_seeker: Path, red_square: tuple[list[str], np.ndarray], tmp_path: Path
) -> None:
    paths, boxes = red_square
    sequence = tmp_path / "data" / "square"
    (sequence / "img").mkdir(parents=True)
    for path in paths:
        Path(path).rename(sequence / "img" / Path(path).name)
    np.savetxt(sequence / "groundtruth.txt", boxes, delimiter=",")
    words = ["eval", str(tmp_path / "data"), "--dataset", "folder", "--out", str(tmp_path / "out"), "--frames", "4"]
    words += ["--peers", "nanotrack", "--nano-models", str(red_seeker)]
    assert main(words) == 0
    assert (tmp_path / "out/results/folder/OpenCV-Nano/square.txt").is_file()
    assert np.loadtxt(tmp_path / "out/results/confidences/folder/OpenCV-Nano/square.txt").shape == (4,)
    assert main(words) == 0
    before = peer_entries("nanotrack", str(red_seeker))[0].signature()
    with (red_seeker / "nanotrack_head_sim.onnx").open("ab") as file:
        file.write(b"\0")
    assert peer_entries("nanotrack", str(red_seeker))[0].signature() != before


def test_models_may_have_either_name(tmp_path: Path) -> None:
    for part in ("backbone", "head"):
        (tmp_path / f"nanotrack_{part}.onnx").touch()
    assert [path.name for path in find_nano_models(tmp_path)] == ["nanotrack_backbone.onnx", "nanotrack_head.onnx"]
    (tmp_path / "nanotrack_backbone_sim.onnx").touch()  # without its head it does not count
    assert find_nano_models(tmp_path).backbone.name == "nanotrack_backbone.onnx"
    (tmp_path / "nanotrack_head_sim.onnx").touch()
    assert find_nano_models(tmp_path).head.name == "nanotrack_head_sim.onnx"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--peers", "nanotrack"], "--nano-models: --peers nanotrack and the folder of its two ONNX files go together"),
        (["--nano-models", "."], "--nano-models: --peers nanotrack and the folder of its two ONNX files go together"),
        (["--peers", "nanotrack", "--nano-models", "nowhere"], "--nano-models: nowhere is not a folder"),
        (["--peers", "mil,nanotrack", "--nano-models", "EMPTY"], "lacks nanotrack_backbone_sim.onnx and"),
        (["--peers", "nanotrack", "--nano-models", "NO_NETWORK"], "cannot read"),
    ],
)
def test_missing_nanotrack_files_are_named_in_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("EMPTY", "NO_NETWORK"):
        (tmp_path / name).mkdir()
    for part in ("backbone", "head"):
        (tmp_path / "NO_NETWORK" / f"nanotrack_{part}.onnx").write_bytes(b"no network")
    words = [str(tmp_path / word) if word in ("EMPTY", "NO_NETWORK") else word for word in words]
    assert main(["eval", str(tmp_path), "--dataset", "folder", "--out", str(tmp_path / "out"), *words]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "remedy"), [("nanotrack", "4.7 and later"), ("csrt", "opencv-contrib-python")])
def test_an_opencv_without_the_tracker_is_reported_with_the_remedy(
    kind: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opencv_trackers, "_creator", lambda name: None)
    with pytest.raises(ValueError, match=f"here has no tracker '{kind}': .*{remedy}"):
        Entry("peer", f"opencv:{kind}").make("cpu")


def test_an_opencv_error_while_tracking_is_a_value_error(
    red_square: tuple[list[str], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models of NanoTrack v3 fail at the first update; the evaluation lists that and goes on."""
    paths, boxes = red_square

    class Failing:
        def init(self, frame: np.ndarray, box: tuple[int, ...]) -> None:
            cv2.cvtColor(frame[:0], cv2.COLOR_BGR2RGB)

    monkeypatch.setattr(opencv_trackers, "_creator", lambda name: Failing)
    with pytest.raises(ValueError, match="cvtColor"):
        OpenCVTracker("kcf").track(paths, boxes[0])
