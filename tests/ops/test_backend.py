"""A GPU that Triton has no tensor-core products for is served by the torch backend, and the reason is given."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from siamfast.commands import info
from siamfast.ops import dispatch
from siamfast.ops.crop_and_resize import autograd as crop_and_resize_autograd

pytest.importorskip("triton")

CARDS = {0: ("Tesla T4", 7, 5), 1: ("A100", 8, 0)}


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with two GPUs: a T4, which is the current device, and an A100."""
    properties = {
        index: SimpleNamespace(name=name, major=major, minor=minor, multi_processor_count=40, total_memory=1 << 34)
        for index, (name, major, minor) in CARDS.items()
    }
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(CARDS))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: CARDS[index][0])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: CARDS[index][1:])
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties.__getitem__)
    dispatch.gpu_too_old.cache_clear()
    yield
    dispatch.gpu_too_old.cache_clear()


@pytest.mark.parametrize("op", info.OPS)
def test_every_op_leaves_an_old_gpu_to_torch(two_cards: None, op: str) -> None:
    module: Any = importlib.import_module(f"siamfast.ops.{op}")
    if not module.can_run("triton", "cuda:1", torch.float32):
        pytest.skip("an op without a Triton kernel")
    for device, serves in (("cuda", False), ("cuda:0", False), ("cuda:1", True)):
        assert module.can_run("triton", device, torch.float32) == serves, device
        assert module.can_run("torch", device, torch.float32)
    with pytest.raises(ValueError, match="sm_80 and later, and Tesla T4 is sm_75"):
        module.can_run("triton", "cuda", torch.float32, raise_error=True)


def test_a_call_is_served_by_its_own_device(two_cards: None) -> None:
    for reason in (dispatch.reason, crop_and_resize_autograd.reason):
        assert dispatch.pick(torch.device("cuda:0"), torch.float32, reason) == "torch"
        assert dispatch.pick(torch.device("cuda:1"), torch.float32, reason) == "triton"


def test_info_names_the_old_gpu(two_cards: None) -> None:
    rows = info.devices()
    assert any("cuda:0" in row and "torch backend" in row and "Tesla T4 is sm_75" in row for row in rows)
    assert not any("cuda:1" in row and "torch backend" in row for row in rows)
    served = [row.split() for row in info.backends() if " cuda " in row]
    assert [row[2] for row in served if row[0] in info.OPS] == ["torch"] * len(info.OPS)
    assert "Tesla T4 is sm_75" in "\n".join(info.backends())


def test_without_a_gpu_info_reports_triton_as_for_a_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert dispatch.triton_reason("cuda", torch.float32) is None
