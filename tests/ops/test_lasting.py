"""Tensors that are kept for good are not allocated by the thread that may be warming up a CUDA graph."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from siamfast.ops.lasting import make_lasting


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stand-in for a CUDA stream that records its calls and their threads."""
    asked: list[str] = []
    stand_in = SimpleNamespace(synchronize=lambda: asked.append(threading.current_thread().name))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stand_in)
    return asked


def maker() -> tuple[str, int]:
    return threading.current_thread().name, 7


def test_on_a_gpu_another_thread_makes_the_tensors_and_waits_for_them(stream: list[str]) -> None:
    thread, value = make_lasting(maker, torch.device("cuda", 0))
    assert value == 7
    assert thread != threading.current_thread().name
    assert stream == [thread]


def test_on_a_cpu_the_caller_makes_the_tensors(stream: list[str]) -> None:
    assert make_lasting(maker, torch.device("cpu")) == (threading.current_thread().name, 7)
    assert not stream


def test_an_error_reaches_the_caller(stream: list[str]) -> None:
    def fails() -> Any:
        raise ValueError("metric: got 'l3'")

    with pytest.raises(ValueError, match="metric: got 'l3'"):
        make_lasting(fails, torch.device("cuda", 0))
