"""Parts of a network by `torch.compile`: the same values, with the weights that the module has now."""

from __future__ import annotations

import copy
import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import siamfast.compat
from siamfast.compat.compiled import Compiled, whole_parts
from tests.compat.projects import CROPS, make_package
from tests.compat.test_accelerating import CORRELATION, TRACKER, boxes, make, measured
from tests.compat.test_convolutions import close, trained

pytestmark = pytest.mark.timeout(900)  # each graph takes the C++ compiler some seconds


def test_new_weights_and_copies_and_gradients() -> None:
    network = trained(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()))
    compiled = Compiled(network)
    x = torch.randn(1, 3, 9, 9)
    with torch.no_grad():
        assert close(compiled(x), network(x))
        other, loaded = copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))
        network.forward = compiled  # type: ignore[method-assign]
        assert isinstance(copy.deepcopy(network).forward, Compiled)  # each knows the other while it is copied
        del network.forward
        before = compiled(x)
        first = network[0]
        assert isinstance(first, nn.Conv2d)
        first.weight.mul_(2)
        assert not close(compiled(x), before)
        assert close(compiled(x), network(x))
        assert close(other(x), before)  # which has its own weights
        assert loaded.module is not network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, fused=True)
    compiled(x).square().sum().backward()
    assert first.weight.grad is not None
    optimizer.step()  # without a new version
    with torch.no_grad():
        assert close(compiled(x), network(x))


def test_parts_are_those_that_are_called() -> None:
    network = nn.Module()
    network.heads = nn.ModuleList([nn.Conv2d(1, 1, 1), nn.Sequential(nn.ReLU())])
    network.neck = nn.Sequential(nn.ReLU())
    network.done = nn.ReLU()
    network.done.forward = lambda x: x  # type: ignore[method-assign]
    assert list(whole_parts(network)) == [*network.heads, network.neck]


@pytest.mark.parametrize("gains", [True, False])
def test_a_compiled_tracker(gains: bool, packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"tracker.py": TRACKER, "correlation.py": CORRELATION, "crops.py": CROPS}
    files = {name: text.replace("accelerated_", f"compiled_{gains}_") for name, text in files.items()}
    make_package(packages, f"compiled_{gains}_project", files)
    tracker: Any = make(importlib.import_module(f"compiled_{gains}_project.tracker"))
    before = boxes(tracker)
    measured(monkeypatch, 6, 5, 4, 3, 2, 1 if gains else 3)
    done = siamfast.compat.accelerate(tracker, minimal_filtering=False, compiled=True)
    last = done.steps[-1]
    assert last.name == "torch.compile"
    if gains:  # the head is one convolution, which is done already
        assert (last.details, last.seconds) == ("1 parts", 1)
        assert isinstance(vars(tracker.network.backbone)["forward"], Compiled)
    else:
        assert last.details.endswith("slower on this CPU")
    np.testing.assert_allclose(boxes(tracker), before, atol=1e-3)
    done.undo()
    assert "forward" not in vars(tracker.network.backbone)
    np.testing.assert_array_equal(boxes(tracker), before)
