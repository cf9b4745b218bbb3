"""Exported folders: their examples track as we do without PyTorch, batches agree, and bad input is one line."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import siamfast
from siamfast.cli import main
from siamfast.data.synthetic import SyntheticVideo
from siamfast.deploy import example_mobile, example_siamfc
from siamfast.deploy.folder import export_folder
from siamfast.models.onnx_export import check_packages
from siamfast.models.weights import default_weights
from siamfast.ops.crop_and_resize import crop_and_resize
from siamfast.tracking.mobile import MobileTracker
from siamfast.tracking.sequence_tracker import SequenceTracker
from siamfast.tracking.siamfc import SiamFCTracker
from tests.threads import threads

onnx = pytest.importorskip("onnx")
for package in ("onnxscript", "onnxruntime"):
    pytest.importorskip(package)
pytestmark = pytest.mark.timeout(900)
EXAMPLES = {"mobile": example_mobile, "siamfc": example_siamfc}
_SCRIPT = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert not {"torch", "siamfast"} & sys.modules.keys()
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a model with one target per call, made once."""

    @functools.cache
    def export(model: str) -> Path:
        out = tmp_path_factory.mktemp(model) / "out"
        assert main(["export", str(out), "--model", model, "--precision", "float32,float16"]) == 0
        return out

    return export


@pytest.fixture(scope="module", params=["mobile", "siamfc"])
def folder(request: pytest.FixtureRequest, exported: Callable[[str], Path]) -> Path:
    return exported(request.param)


@pytest.fixture(scope="module")
def mobile(exported: Callable[[str], Path]) -> Path:
    return exported("mobile")


def ours(model: str) -> SequenceTracker:
    if model == "siamfc":
        return SiamFCTracker(precision="float32")
    return MobileTracker(engine="onnxruntime", precision="float32")


def run_example(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The example as a user runs it, in a process that must not import PyTorch or siamfast."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", _SCRIPT, str(folder / "example_tracker.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)


@given(
    st.tuples(st.integers(1, 200), st.integers(1, 200)), st.tuples(st.floats(-0.5, 1.5), st.floats(-0.5, 1.5)),
    st.floats(0.3, 700), st.integers(1, 160), st.integers(0, 2**32 - 1),
)  # fmt: skip
@example((14, 159), (0.0, 0.0), 100.92823847026713, 3, 212447)  # a mean of 16180.49955 / 128, in float32 16180.5 / 128
def test_the_examples_crops_are_ours_to_the_last_level(
    shape: tuple[int, int], place: tuple[float, float], side: float, out: int, seed: int
) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    middle, mean = np.array(place) * shape[::-1], frame.mean((0, 1))
    with siamfast.backend("cpp"):
        exact = crop_and_resize(frame, middle - 0.5, side, out, fill=mean, rounding="subpixel")
        rounded = crop_and_resize(frame, middle, side, out, fill=np.rint(mean))
    np.testing.assert_array_equal(example_mobile.cut(frame, middle, side, out, mean), exact)
    np.testing.assert_array_equal(example_siamfc.cut(frame, middle, side, out, np.rint(mean))[None], rounded)


def test_the_shipped_graphs_are_what_this_cpu_exports(mobile: Path) -> None:
    """To the bit, also where the weights' norms are folded by another CPU's sums. Another PyTorch gives constants other
    names."""
    for made, shipped in (("search.onnx", "mobile.onnx"), ("template.onnx", "mobile.template.onnx")):
        exported, packaged = (
            [(tensor.name, onnx.numpy_helper.to_array(tensor)) for tensor in onnx.load(path).graph.initializer]
            for path in (mobile / made, Path(siamfast.__file__).parent / "models" / "weights" / shipped)
        )
        for (name, ours), (_, theirs) in zip(exported, packaged, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


@given(seed=st.integers(0, 2**31), size=st.tuples(st.integers(60, 300), st.integers(60, 400)))
@settings(max_examples=4)
def test_the_mobile_example_is_our_tracker(seed: int, size: tuple[int, int], mobile: Path) -> None:
    """On any clip: crops and networks are the same to the bit, and sums in another order change a crop only where a
    weight is within 1e-9 of the middle between two of fixed point's, once in 10,000 clips."""
    video = SyntheticVideo(seed, length=31, size=size)
    first = np.array(video.box(0), np.float32)  # whose sums would be in float32 too
    tracker = MobileTracker(engine="onnxruntime", precision="float32").init(video.frame(0), first)
    example = example_mobile.Tracker(mobile)
    example.init(video.frame(0), first)
    for t in range(1, 31):
        box, confidence = tracker.update(video.frame(t))
        found, sure = example.update(video.frame(t))
        np.testing.assert_allclose(found, box, atol=1e-6, err_msg=str(t))
        assert sure == pytest.approx(confidence, abs=1e-6)


def test_the_example_gives_our_boxes_without_pytorch(folder: Path, tmp_path: Path) -> None:
    model = json.loads((folder / "tracker.json").read_text())["model"]
    for seed in (3, 4):
        clip = tmp_path / str(seed)
        clip.mkdir()
        frames = list(SyntheticVideo(seed, length=21))
        for number, (frame, _) in enumerate(frames):
            cv2.imwrite(str(clip / f"{number:03d}.png"), frame[..., ::-1])
        boxes, _ = ours(model).track([frame for frame, _ in frames], frames[0][1])
        ran = run_example(folder, str(clip), "--box", ",".join(map(repr, frames[0][1].tolist())))
        assert ran.returncode == 0, ran.stderr
        rows = np.loadtxt(ran.stdout.splitlines(), delimiter=",")
        assert len(rows) == 21
        np.testing.assert_allclose(rows[:, 1:5], boxes, atol=0.5)


def test_float16_gives_the_boxes_of_float32(folder: Path) -> None:
    """Within half a pixel, from the same last box; all convolutions with weights are in float16."""
    model = json.loads((folder / "tracker.json").read_text())["model"]
    graph = onnx.load(folder / "search.float16.onnx")
    constants = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    weights = [constants.get(node.input[1]) for node in graph.graph.node if node.op_type == "Conv"]
    assert weights.count(onnx.TensorProto.FLOAT16) >= {"mobile": 50, "siamfc": 5}[model]
    assert onnx.TensorProto.FLOAT not in weights
    if model == "siamfc":  # the mobile tracker's constants are stored in float16 in any precision
        assert (folder / "search.float16.onnx").stat().st_size < 0.55 * (folder / "search.onnx").stat().st_size
    video = SyntheticVideo(3, length=21)
    exact, half = (EXAMPLES[model].Tracker(folder, precision) for precision in ("float32", "float16"))
    for tracker in (exact, half):
        tracker.init(video.frame(0), np.array(video.box(0)))
    for t in range(1, 21):
        for name in ("middle", "size", "side", "grown"):
            if hasattr(exact, name):
                setattr(half, name, getattr(exact, name))
        box = exact.update(video.frame(t))[0]
        np.testing.assert_allclose(half.update(video.frame(t))[0], box, atol=0.5, err_msg=str(t))


def test_any_number_of_targets_gives_what_one_gives(folder: Path, tmp_path: Path) -> None:
    import onnxruntime

    model = json.loads((folder / "tracker.json").read_text())["model"]
    assert main(["export", str(tmp_path), "--model", model, "--batch", "dynamic"]) == 0

    def graph(where: Path, name: str) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(str(where / name), providers=["CPUExecutionProvider"])

    rng = np.random.default_rng(0)
    singles, batched = {}, {}
    for name in ("template.onnx", "search.onnx"):
        single, many = graph(folder, name), graph(tmp_path, name)
        feed: dict[str, NDArray[np.generic]] = {}
        for entry in single.get_inputs():
            shape = (3, *entry.shape[1:])
            if entry.name == "image":
                feed[entry.name] = rng.integers(0, 256, shape, dtype=np.uint8)
            elif entry.name == "box":
                feed[entry.name] = np.array([[30, 40, 60, 50], [32, 32, 64, 64], [10, 45, 100, 30]], np.float32)
            else:
                feed[entry.name] = batched.get(entry.name, np.ones(shape, np.float32))
        names = [output.name for output in single.get_outputs()]
        batched |= dict(zip(names, many.run(None, feed), strict=True))
        parts = [single.run(None, {key: value[i : i + 1] for key, value in feed.items()}) for i in range(3)]
        singles |= {key: np.concatenate([part[place] for part in parts]) for place, key in enumerate(names)}
    for key, value in singles.items():
        np.testing.assert_allclose(batched[key], value, rtol=1e-3, atol=1e-3 * float(np.abs(value).max()), err_msg=key)
    assert np.ptp(batched[names[0]], axis=0).max() > 0  # the targets differ


def test_another_version_or_other_weights_are_one_line(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    constants = json.loads((copy / "tracker.json").read_text())
    example = EXAMPLES[constants["model"]]
    for change, text in (
        ({"format_version": 2}, "tracker.json: format_version is 2, expected 1"),
        ({"model": "other"}, "tracker.json: model is other, expected"),
        ({"batch": 4}, "tracker.json: batch is 4, expected 1"),
        ({"weights_sha256": "0"}, "template.onnx: its weights_sha256 is .*, expected 0 as in tracker.json"),
    ):
        (copy / "tracker.json").write_text(json.dumps(constants | change))
        with pytest.raises(ValueError, match=text):
            example.Tracker(copy)
    for text in ("[3]", "{", "3"):
        (copy / "tracker.json").write_text(text)
        with pytest.raises(ValueError, match="tracker.json: is no JSON object"):
            example.Tracker(copy)
    (copy / "tracker.json").write_text(json.dumps(constants))
    with pytest.raises(ValueError, match="--precision: got int8, expected one of float32"):
        example.Tracker(copy, "int8")
    (copy / "search.onnx").write_bytes(b"no graph")
    ran = run_example(copy, "nowhere.mp4", "--box", "1,2,3,4")
    assert ran.returncode == 1
    assert ran.stderr.startswith("example_tracker.py: error: ")
    assert "search.onnx: onnxruntime cannot load it" in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("box", [(np.nan, 2, 3, 4), (5, 5, 0, 4), (500, 5, 9, 9), (-20, 5, 9, 9), (1, 1, np.inf, 3)])
def test_a_box_outside_the_first_frame_is_an_error(folder: Path, box: tuple[float, ...]) -> None:
    tracker = EXAMPLES[json.loads((folder / "tracker.json").read_text())["model"]].Tracker(folder)
    with pytest.raises(ValueError, match=r"box: got .*, expected sides above 0, in the frame of 64 x 48"):
        tracker.init(np.zeros((48, 64, 3), np.uint8), box)


@pytest.mark.parametrize(("dtype", "shape"), [("uint16", (48, 64, 3)), ("uint8", (48, 64)), ("uint8", (48, 64, 1))])
def test_a_frame_of_another_kind_is_an_error(folder: Path, dtype: str, shape: tuple[int, ...]) -> None:
    tracker = EXAMPLES[json.loads((folder / "tracker.json").read_text())["model"]].Tracker(folder)
    with pytest.raises(ValueError, match=r"frame: got .*, expected uint8, \(H, W, 3\)"):
        tracker.init(np.zeros(shape, dtype), (5, 5, 9, 9))


def test_a_changed_example_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "example_tracker.py").write_text("# mine\n")
    with pytest.raises(ValueError, match=r"example_tracker.py: was changed, .*; move it away first"):
        export_folder(tmp_path, "mobile")
    assert [path.name for path in tmp_path.iterdir()] == ["example_tracker.py"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["out"], "PATH: got 'out' without --model"),
        (["w.safetensors", "--model", "mobile"], "PATH: got 'w.safetensors' with --model, expected a folder"),
        (["w.safetensors", "--batch", "2"], "--batch: got it without --model"),
        (["out", "--model", "mobile", "--batch", "0"], "--batch: got '0'"),
        (["out", "--model", "mobile", "--precision", "int4"], "--precision: got 'int4'"),
        (["out", "--model", "mobile", "--no-int8"], "--no-int8: got it with --model"),
        (["out", "--model", "mobile", "--weights", "SIAMFC"], "siamfc-alexnet"),
        (["out", "--model", "siamfc", "--weights", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_one_line(
    words: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    siamfc = str(default_weights("siamfc_alexnet.safetensors"))
    assert main(["export", *(siamfc if word == "SIAMFC" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siamfast.models.onnx_export._PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(ValueError, match="export: needs no_such_package: pip install no_such_package"):
        check_packages()
