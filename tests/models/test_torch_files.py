"""PyTorch files load from all common wrappers and run no code; unusable files are named in one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from siamfast.models.correspondence_weights import load_encoder
from siamfast.models.guided_weights import load_guided
from siamfast.models.mobile_weights import load_mobile
from siamfast.models.siamfc import SiamFC
from siamfast.models.siamfc_weights import load_model, load_weights
from siamfast.models.torch_files import is_torch_file, read_torch_file, unwrapped
from siamfast.tracking.registry import Tracker


class Settings:
    """A class of a project that is not installed here: nothing of it may be imported."""

    def __init__(self) -> None:
        self.depth = 3

    def __setstate__(self, _: object) -> None:
        raise AssertionError("code from the file ran")


@pytest.fixture(scope="module")
def model() -> SiamFC:
    torch.manual_seed(3)
    return SiamFC(bias=-1.5).eval()


WRAPPED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "compiled DataParallel": lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
    "compiled part": lambda s: {k.replace("backbone.", "backbone._orig_mod."): v for k, v in s.items()},
    "Lightning": lambda s: {"epoch": 3, "global_step": 9, "state_dict": {f"model.{k}": v for k, v in s.items()}},
    "trainer of a trainer": lambda s: {"model": {f"net.module.model.{k}": v for k, v in s.items()}},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}, "param_groups": []}},
    "weights": lambda s: {"weights": s, "loss": 0.5},
    "another name": lambda s: {"siamese": s, "epoch": 2},
    "nested": lambda s: {"checkpoint": {"net": s}},
    "NumPy scalars": lambda s: {"state_dict": s, "best": np.float64(0.5), "epoch": np.int64(3), "seen": np.ones(3)},
    "among the tensors": lambda s: {**s, "epoch": 3, "best": np.float32(0.1)},
    "settings": lambda s: {"net": s, "args": argparse.Namespace(lr=0.1), "cfg": Settings(), "out": Path("runs")},
    "AveragedModel": lambda s: {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in s.items()}},
}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "pickle"])
@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_checkpoints_load(name: str, old: bool, model: SiamFC, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(WRAPPED[name](model.state_dict()), path, _use_new_zipfile_serialization=not old)
    loaded = load_model(path).state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded[key], value), key


def test_wrapped_encoders_load(tmp_path: Path) -> None:
    state = load_encoder().state_dict()
    torch.save({"model_state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "encoder.pt")
    assert torch.equal(load_encoder(tmp_path / "encoder.pt").state_dict()["conv1.weight"], state["conv1.weight"])


def test_clashing_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.weight more than once"):
        unwrapped({"a.weight": 0, "module.a.weight": 1})


def test_a_pickled_model_is_refused_in_one_line(model: SiamFC, tmp_path: Path) -> None:
    torch.save(model, tmp_path / "whole.pth")
    with pytest.raises(
        ValueError, match=r"whole\.pth (holds a SiamFC, expected a state dict|cannot be loaded)"
    ) as error:
        load_model(tmp_path / "whole.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"PK\x03\x04 no archive", b"\x80\x02 no pickle", b"\x80"])
def test_damaged_files_are_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.pth cannot be loaded as tensors") as error:
        read_torch_file(tmp_path / "bad.pth")
    assert "\n" not in str(error.value)


def test_files_without_tensors_are_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="holds no tensors; its entries are epoch"):
        load_model(tmp_path / "empty.pth")


@pytest.mark.parametrize("load", [load_mobile, load_guided])
def test_other_networks_ask_for_safetensors(load: Callable[[Path], object], tmp_path: Path) -> None:
    torch.save({"model": {"a.weight": torch.zeros(1)}}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt is a PyTorch file, expected safetensors"):
        load(tmp_path / "checkpoint.pt")


def test_safetensors_with_a_header_length_like_a_pickles_load(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    for length in range(40):
        save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"x": "y" * length * 8})
        assert not is_torch_file(tmp_path / "a.safetensors")


def test_a_tracker_takes_pytorch_files(model: SiamFC, tmp_path: Path) -> None:
    torch.save(
        {"epoch": np.int64(1), "net": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "s.pth"
    )
    assert Tracker(tmp_path / "s.pth", device="cpu").name
    load_weights(SiamFC(), tmp_path / "s.pth")
