"""Fixtures of the whole suite: memory that nobody wrote shows itself as NaN; torch runs on the machine's two cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest

# Threads that wait for one another sleep at once. By default GNU OpenMP's spin, and where other work shares the cores,
# a test of many small calls took 52 s in place of 0.5. Read when torch loads the library, hence before its import.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch

# One seed for a failing CI run to be repeated with; draws are fresh on a developer's machine.
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=False)
hypothesis.settings.load_profile("ci")


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.empty` and its kin come filled with NaN, so that an unwritten output fails its comparison."""

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
    """Tests that draw from torch's global generator draw the same each run; hypothesis draws its own."""
    torch.manual_seed(0)
