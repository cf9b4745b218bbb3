"""Fixtures of the whole suite: unwritten memory is NaN; the processes of a suite share the cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest

# Waiting threads sleep at once. By default GNU OpenMP's threads spin: where other work shared the cores, a test of many
# small calls took 52 s in place of 0.5. torch reads this when it loads the library, so it is set before the import.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# pytest-xdist has a process for each core: threads that wait for a core that another process has doubled the time of a
# training.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    _share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _share)))

import torch

# One seed for a failing CI run to be repeated with; draws are fresh on a developer's machine.
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=False)
hypothesis.settings.load_profile("ci")


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills the tensors of `torch.empty` and its kind with NaN, so that an unwritten output fails its comparison."""

    def poisoned(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def made(*args: Any, **kwargs: Any) -> torch.Tensor:
            tensor = make(*args, **kwargs)
            if type(tensor) is torch.Tensor and tensor.is_floating_point() and not tensor.is_meta:
                with torch.no_grad():
                    tensor.fill_(float("nan"))
            return tensor

        return made

    monkeypatch.setattr(torch, "empty", poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seeds torch's global generator, so that each run draws the same numbers; hypothesis draws its own."""
    torch.manual_seed(0)
