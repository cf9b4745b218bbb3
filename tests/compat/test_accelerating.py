"""Whole trackers of other projects made faster: the same boxes, told and undone."""

from __future__ import annotations

import collections
import copy
import gc
import importlib
import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import siamfast.compat
from siamfast.compat import trial, winograd
from tests.compat.projects import CROPS, make_package
from tests.compat.test_convolutions import trained

TRACKER = """
import numpy as np, torch
import torch.nn as nn
from accelerated_project.correlation import xcorr_depthwise
from accelerated_project.crops import get_subwindow as crop

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 7, 4, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.ReLU(inplace=True))
        self.head = nn.Conv2d(8, 5, 1)

    def template(self, z):
        self.zf = self.backbone(z)

    def track(self, x):
        return self.head(xcorr_depthwise(self.backbone(x), self.zf))

class Tracker:
    def __init__(self, network):
        self.network = network

    def get_subwindow(self, im, pos, model_sz, original_sz, avg_chans):
        return crop(im, pos, model_sz, original_sz, avg_chans)

    def init(self, img, bbox):
        self.size = np.array(bbox[2:], dtype=float)
        self.center = np.array(bbox[:2]) + (self.size - 1) / 2
        self.color = img.mean((0, 1))
        self.network.template(self.get_subwindow(img, self.center, 63, 80, self.color))

    def track(self, img):
        out = self.network.track(self.get_subwindow(img, self.center, 127, 160, self.color))
        score, delta = out[0, 0], out[0, 1:].detach().numpy()
        y, x = np.unravel_index(int(score.argmax()), score.shape)
        self.center = self.center + np.tanh(delta[:2, y, x])
        self.size = self.size * np.exp(0.01 * np.tanh(delta[2:, y, x]))
        return {"bbox": [*(self.center - self.size / 2), *self.size], "best_score": float(score.detach().max())}
"""
CORRELATION = "from accelerated_project.plain import grouped as _grouped\n\n\ndef xcorr_depthwise(x, kernel):\n    return _grouped(x, kernel)\n"  # noqa: E501


@pytest.fixture
def project(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(winograd, "_FEWEST_CHANNELS", {3: 4, 5: 4})
    monkeypatch.setattr(winograd, "FEWEST_TILES", 2)
    files = {"tracker.py": TRACKER, "correlation.py": CORRELATION, "crops.py": CROPS}
    make_package(packages, "accelerated_project", files)
    return importlib.import_module("accelerated_project.tracker")


def boxes(tracker: Any) -> np.ndarray:
    first, *others = trial.clip()
    tracker.init(first, [30, 40, 70, 50])
    return np.array([tracker.track(frame)["bbox"] for frame in others * 3])


def make(project: Any) -> Any:
    torch.manual_seed(0)
    return project.Tracker(trained(project.Network()))


def measured(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """The trials take these times, one after another."""
    clock, real = iter(seconds), trial.measure
    monkeypatch.setattr(trial, "measure", lambda *given: real(*given)._replace(seconds=next(clock)))


def test_minimal_filtering_is_left_out_where_it_is_slower(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, 5, 4, 3, 2, 1, 1.1)
    tracker = make(project)
    done = siamfast.compat.accelerate(tracker)
    assert done.steps[-1].details == "1 convolutions: 1100.00 ms a frame, slower on this CPU"
    assert (done.steps[-1].seconds, done.steps[-1].difference) == (1, None)
    assert not any(vars(m["forward"]).get("_filtering") for m in map(vars, tracker.network.modules()) if "forward" in m)


def test_same_boxes_and_undone(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, 6, 5, 4, 3, 2, 1)
    tracker = make(project)
    before, state = boxes(tracker), dict(vars(tracker))
    crop, correlation = project.Tracker.get_subwindow, project.xcorr_depthwise
    done = siamfast.compat.accelerate(tracker)
    assert all(vars(tracker)[name] is value for name, value in state.items())  # the trial is no part of the user's run
    assert [step.name for step in done.steps] == [
        *("as it was", "crops", "correlations", "gradients", "convolutions", "minimal filtering")
    ]
    assert all(step.difference is not None for step in done.steps)
    assert "3, with 2 BatchNorms and 1 activations" in done.steps[4].details
    assert done.steps[5].details == "1 convolutions"
    assert project.xcorr_depthwise is not correlation
    np.testing.assert_allclose(boxes(tracker), before, atol=0.05)
    done.undo()
    done.undo()
    assert np.array_equal(boxes(tracker), before)
    assert project.Tracker.get_subwindow is crop
    assert project.xcorr_depthwise is correlation
    assert not any("forward" in vars(module) for module in tracker.network.modules())
    assert vars(tracker).keys() == state.keys()


def test_a_project_that_is_patched_already(project: Any) -> None:
    with siamfast.compat.patch("accelerated_project"), siamfast.compat.accelerate(make(project)) as done:
        step = done.steps[2]
        assert (step.name, step.details) == ("correlations", "accelerated_project is patched already")
        assert step.difference is None


def test_values_that_the_trial_writes_in_place_are_put_back(project: Any) -> None:
    class Tracker(project.Tracker):  # type: ignore[misc,name-defined]
        def init(self, img: Any, bbox: Any) -> None:
            super().init(img, bbox)
            self.path[:] = self.center
            self.history.append(bbox)
            self.templates[0].copy_(self.network.zf)

    torch.manual_seed(0)
    tracker = Tracker(project.Network().train())  # BatchNorm's statistics change with each call
    tracker.history = history = []
    tracker.path, tracker.templates = np.zeros(2), [torch.zeros(1, 8, 6, 6)]
    state = copy.deepcopy(tracker.network.state_dict())
    siamfast.compat.accelerate(tracker)
    assert tracker.history is history
    assert not history
    assert not tracker.path.any()
    assert not tracker.templates[0].any()
    for name, value in tracker.network.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_undone_in_the_middle_of_a_sequence(project: Any) -> None:
    tracker = make(project)
    first, second, third = trial.clip()
    with siamfast.compat.accelerate(tracker):
        tracker.init(first, [30, 40, 70, 50])
        tracker.track(second)
    tracker.track(third)


def test_report_names_each_step_and_its_share(project: Any) -> None:
    done = siamfast.compat.accelerate(make(project), minimal_filtering=False)
    lines = done.report().splitlines()
    assert len(lines) == 1 + len(done.steps)
    assert re.match(r"convolutions +[\d.]+ +[\d.]+x +[\d.]+x  [\d.e+-]+  3, with", lines[-1])
    assert done.speedup == pytest.approx(done.steps[0].seconds / done.steps[-1].seconds)


def test_a_network_alone(project: Any) -> None:
    network = make(project).network
    done = siamfast.compat.accelerate(network)
    assert "convolutions" in [step.name for step in done.steps]


def test_a_step_that_changes_results_is_left_out(project: Any) -> None:
    """The results depend on the order of pixels, which a convolution's substitute changes."""

    class Network(project.Network):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def track(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return super().track(y if y.is_contiguous() else -y)

    tracker = project.Tracker(trained(Network()))
    before = boxes(tracker)
    done = siamfast.compat.accelerate(tracker)
    left = {step.name: step.details for step in done.steps if step.difference is None}
    assert list(left) == ["convolutions"], left
    assert "results change" in left["convolutions"]
    np.testing.assert_allclose(boxes(tracker), before, atol=0.05)


def test_tracker_and_network_apart_with_a_trial_run(project: Any) -> None:
    tracker = make(project)

    class Apart:
        def start(self, network: Any) -> Any:
            tracker.network = network
            return boxes(tracker)

    network = tracker.network
    apart = Apart()
    done = siamfast.compat.accelerate(apart, network, trial_run=lambda: apart.start(network))
    assert "convolutions" in [step.name for step in done.steps]


def test_what_cannot_be_accelerated_is_said(project: Any) -> None:
    with pytest.raises(TypeError, match="got nothing, expected a tracker or a network"):
        siamfast.compat.accelerate()
    with pytest.raises(TypeError, match=r"got object, expected a tracker that keeps a torch\.nn\.Module"):
        siamfast.compat.accelerate(object())
    with pytest.raises(ValueError, match="got Linear, expected a tracker with init and track .* pass trial_run"):
        siamfast.compat.accelerate(nn.Linear(2, 2))
    tracker = make(project)
    with siamfast.compat.accelerate(tracker), pytest.raises(ValueError, match="accelerated already; undo"):
        siamfast.compat.accelerate(tracker)
    tracker.track = lambda image, settings: None
    with pytest.raises(ValueError, match="the trial ended in TypeError: .*pass trial_run"):
        siamfast.compat.accelerate(tracker)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (lambda: None, "trial_run returned no numbers, expected boxes$"),
        (lambda: ["left", {"at": "the tree"}], "trial_run returned no numbers"),
        (lambda: np.random.default_rng().random(4), "trial_run returned other results when it ran again"),
    ],
    ids=["nothing", "words", "random"],
)
def test_a_trial_that_tells_nothing_is_refused(project: Any, results: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        siamfast.compat.accelerate(make(project), trial_run=results)


def test_results_that_are_not_finite_are_compared() -> None:
    before = trial.Outcome([np.array([1.0, np.nan, np.inf])], 1)
    assert trial.difference(before, before) == 0
    for value, place in ((2.0, 0), (0.0, 1), (-np.inf, 2), (np.nan, 0)):
        after = trial.Outcome([before.results[0].copy()], 1)
        after.results[0][place] = value
        assert trial.difference(before, after) is None


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interrupted_it_is_undone(project: Any, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]) -> None:
    def interrupt(*_: Any) -> Any:
        raise end

    monkeypatch.setattr("siamfast.compat.changes.chains", interrupt)
    tracker = make(project)
    correlation = project.xcorr_depthwise
    with pytest.raises(end):
        siamfast.compat.accelerate(tracker)
    assert project.xcorr_depthwise is correlation
    assert "track" not in vars(tracker)


def test_what_the_trial_writes_deep_inside_is_put_back(project: Any) -> None:
    class State:
        place = None

    class Tracker(project.Tracker):  # type: ignore[misc,name-defined]
        def track(self, img: Any) -> Any:
            self.state.place = self.center
            self.last.append(self.center)
            self.deep["of"]["this"] += 1
            self.pair[0][:] += 1
            return super().track(img)

    torch.manual_seed(0)
    tracker = Tracker(trained(project.Network()))
    tracker.state, tracker.last, tracker.deep = State(), collections.deque(maxlen=2), {"of": {"this": 0}}
    tracker.pair = (np.zeros(2), 1)
    boxes(tracker)
    place, last, count, ours = (
        tracker.state.place,
        list(tracker.last),
        tracker.deep["of"]["this"],
        tracker.pair[0].copy(),
    )
    siamfast.compat.accelerate(tracker)
    assert tracker.state.place is place
    assert [*map(id, tracker.last)] == [*map(id, last)]
    assert tracker.deep["of"]["this"] == count
    assert np.array_equal(tracker.pair[0], ours)


def test_a_copy_is_accelerated_and_undone_by_itself(project: Any) -> None:
    before, tracker = boxes(make(project)), make(project)
    done = siamfast.compat.accelerate(tracker)
    other = copy.deepcopy(tracker)
    done.undo()
    again = siamfast.compat.accelerate(other)
    np.testing.assert_allclose(boxes(other), before, atol=0.05)
    again.undo()
    assert np.array_equal(boxes(other), before)
    assert not any("forward" in vars(module) for module in other.network.modules())


def test_a_dropped_tracker_is_freed(project: Any) -> None:
    tracker = make(project)
    siamfast.compat.accelerate(tracker)
    network = weakref.ref(tracker.network)
    del tracker
    gc.collect()
    assert network() is None


def test_undo_leaves_what_was_assigned_since(project: Any) -> None:
    tracker = make(project)
    done = siamfast.compat.accelerate(tracker)
    tracker.track = mine = lambda frame: None
    done.undo()
    assert tracker.track is mine
