"""MultiTracker: each target's boxes are those of a tracker of its own, whatever the others do."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import siamfast
from siamfast.data.synthetic import SyntheticVideo
from siamfast.models.mobile_engine import TorchEngine
from siamfast.tracking.mobile import MobileTracker
from siamfast.tracking.multi import MultiTracker
from tests.models.test_captured import Rerun
from tests.threads import threads

ENGINES = [("torch", 0.5), ("onnxruntime", 1e-9)]  # PyTorch's sums depend on the size of a batch; a graph runs alone


def clip(length: int = 12) -> tuple[list[NDArray[np.uint8]], SyntheticVideo]:
    video = SyntheticVideo(21, length=length, size=(180, 240))
    return [video.frame(t) for t in range(length)], video


def needs(engine: str) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(("engine", "tolerance"), ENGINES)
def test_boxes_are_those_of_single_trackers(engine: str, tolerance: float) -> None:
    """20 targets, more than one pass of PyTorch takes; some over the frame's edge, some on plain background, which are
    lost at once; each added at a frame of its own."""
    needs(engine)
    frames, video = clip()
    rng = np.random.default_rng(0)
    starts = {"target": (0, tuple(video.box(0)))}
    for number in range(19):
        x, y, w, h = rng.uniform([-10, -10, 12, 12], [220, 160, 70, 70])
        starts[f"{number}"] = (int(rng.integers(0, 4)), (x, y, w, h))
    many = MultiTracker(engine=engine, precision="float32")
    singles: dict[str, MobileTracker] = {}
    for t, frame in enumerate(frames):
        tracks = many.update(frame)
        assert set(tracks) == {name for name, (start, _) in starts.items() if start < t}
        for name, track in tracks.items():
            single = singles[name].update(frame)
            assert track.box == pytest.approx(single.box, abs=tolerance), (t, name)
            assert track.confidence == pytest.approx(single.confidence, abs=tolerance)
        new = {name: box for name, (start, box) in starts.items() if start == t}
        many.add(frame, new)
        for name, box in new.items():
            singles[name] = MobileTracker(engine=engine, precision="float32").init(frame, box)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_targets_go_and_are_renamed_without_a_change_for_the_others(engine: str) -> None:
    needs(engine)
    frames, video = clip(6)
    boxes = {"a": tuple(video.box(0)), "b": (20, 30, 40, 30), "c": (100, 90, 30, 50), "d": (5, 5, 20, 20)}
    whole = MultiTracker(engine=engine, precision="float32").add(frames[0], boxes)
    part = MultiTracker(engine=engine, precision="float32").add(frames[0], boxes)
    for t, frame in enumerate(frames[1:], 1):
        expected, tracks = whole.update(frame), part.update(frame)
        if t > 2:
            expected = {"a": expected["a"], 3: expected["d"]}
        assert list(tracks) == list(expected)
        for name, track in tracks.items():
            assert track.box == pytest.approx(expected[name].box, abs=0.5)
        if t == 2:
            part.remove("c", "b").rename("d", 3)
            assert part.ids == ("a", 3)
    assert part.remove("a", 3).update(frames[0]) == {}
    assert part.add(frames[0], {"a": boxes["a"]}).update(frames[1])["a"].box == pytest.approx(
        MultiTracker(engine=engine, precision="float32").add(frames[0], boxes).update(frames[1])["a"].box, abs=0.5
    )


def test_the_fill_is_that_of_each_targets_first_frame() -> None:
    """Targets over the edge, one from a dark frame, one from a bright one: the colour beyond the edge is not shared."""
    frames, _ = clip(4)
    dark = (frames[0] // 3).astype(np.uint8)
    box = (-15.0, 60.0, 40.0, 50.0)
    many = MultiTracker(precision="float32").add(frames[0], {0: box}).add(dark, {1: box})
    singles = [MobileTracker(precision="float32").init(frame, box) for frame in (frames[0], dark)]
    for frame in frames[1:]:
        for number, track in many.update(frame).items():
            assert track.box == pytest.approx(singles[number].update(frame).box, abs=0.5)


def test_frames_that_are_uploaded_give_the_same_boxes() -> None:
    """The way of a GPU's frames, on the CPU: one upload, crops and searches of tensors, graphs for 2 and 4 targets; two
    fills."""
    frames, video = clip(5)
    boxes = {"a": tuple(video.box(0)), "b": (-15.0, 60.0, 40.0, 50.0)}
    trackers = [MultiTracker(engine="torch", precision="float32") for _ in range(2)]
    engine = trackers[1]._targets.engine
    assert isinstance(engine, TorchEngine)
    engine.uploads, engine.graphs = torch.device("cpu"), (graphs := Rerun(engine._step))
    for tracker in trackers:
        tracker.add(frames[0], boxes).add(frames[0] // 3, {"c": (100.0, 90.0, 30.0, 50.0)})
    for frame in frames[1:]:
        expected, uploaded = (tracker.update(frame) for tracker in trackers)
        for name, track in uploaded.items():
            assert track.box == pytest.approx(expected[name].box, abs=0.5)
    assert graphs.captured >= 3  # 2 rows and 1 when they were added, without the guide's; then 3


def test_one_target_takes_one_thread_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, video = clip(3)
    tracker = MultiTracker(engine="torch", precision="float32", device="cpu")
    engine, counts = tracker._targets.engine, []
    step = engine._step
    monkeypatch.setattr(engine, "_step", lambda *a: (counts.append(torch.get_num_threads()), step(*a))[1])
    with threads(2):
        tracker.add(frames[0], {1: tuple(video.box(0))})
        tracker.update(frames[1])
        tracker.add(frames[1], {2: (100.0, 90.0, 30.0, 50.0), 3: (20.0, 90.0, 30.0, 50.0)})
        tracker.update(frames[2])
        assert torch.get_num_threads() == 2
    assert counts[:2] == [1, 1]
    assert counts[-1] == 2


def test_bad_targets_are_named_and_leave_the_others() -> None:
    frames, video = clip(2)
    tracker = MultiTracker().add(frames[0], {"a": tuple(video.box(0))})
    for boxes, words in (
        ({"b": (5, 5, 10, 10), "a": (0, 0, 9, 9)}, "id 'a', which is tracked already"),
        ({"b": (5, 5, 10, 10), "c": (500, 0, 9, 9)}, "id 'c'.*outside the image"),
        ({"b": (5, 5, 0, 10)}, "id 'b'.*no area"),
        ({"b": (-1e9, -1e9, 2e9, 2e9)}, "id 'b'.*sides from 0.001 to 100000"),
        ({"b": (20, 20, 1e-12, 30)}, "id 'b'.*sides from 0.001 to 100000"),  # its boxes would be nan
    ):
        with pytest.raises(ValueError, match=words):
            tracker.add(frames[0], boxes)
    with pytest.raises(TypeError, match="boxes: got list, expected a dictionary"):
        tracker.add(frames[0], [(5, 5, 10, 10)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 'x', expected one of 'a'"):
        tracker.remove("a", "x")
    with pytest.raises(ValueError, match="got 'x', expected one of 'a'"):
        tracker.rename("x", "y")
    with pytest.raises(TypeError, match=r"new: got \[1\], expected an id that can be hashed"):
        tracker.rename("a", [1])
    tracker.add(frames[0], {"b": (30, 30, 20, 20)})
    with pytest.raises(ValueError, match="'b', which is tracked already"):
        tracker.rename("a", "b")
    with pytest.raises(TypeError, match="image"):
        tracker.update("frame.png")
    assert list(tracker.update(frames[1])) == ["a", "b"]


def test_it_is_public() -> None:
    assert siamfast.MultiTracker is MultiTracker
    assert "MultiTracker" in sys.modules["siamfast"].__all__
