"""The tuner skips configurations that do not run and keeps the fastest on disk for reuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("triton")
from siamfast.kernels import tuning

ON_GPU: Any = SimpleNamespace(is_cuda=True, device=torch.device("cuda", 0))
DEFAULT, FAST, SLOW = {"block": 1}, {"block": 2}, {"block": 3}
SECONDS = {1: 2.0, 2: 1.0, 3: 9.0}


def take(config: dict[str, int]) -> float:
    if config["block"] not in SECONDS:
        raise tuning.triton.runtime.errors.OutOfResources(1, 0, "shared memory")
    return SECONDS[config["block"]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SIAMFAST_CACHE", str(tmp_path))
    monkeypatch.setenv("SIAMFAST_TUNE", "1")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(tuning.triton.testing, "do_bench", lambda run, return_mode: run())
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """Reset the tuner to the state of a new process."""
    tuning.cache_file.cache_clear()
    tuning._winners.cache_clear()


def tuned(key: str = "shape", others: tuple[dict[str, int], ...] = (SLOW, {"block": 4}, FAST)) -> dict[str, int]:
    return tuning.tuned(ON_GPU, (key,), DEFAULT, lambda: list(others), take)


def test_the_fastest_configuration_is_kept_and_reused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuned() == FAST
    (file,) = folder.iterdir()
    assert json.loads(file.read_text()) == {"shape": FAST}
    assert file.name.startswith("A-GPU-triton-")
    monkeypatch.delenv("SIAMFAST_TUNE")
    forget()
    assert tuned() == FAST
    assert tuned("another shape") == DEFAULT


def test_without_a_configuration_that_runs_the_default_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SECONDS, 1, 1.0)
    assert tuned(others=({"block": 4},)) == DEFAULT


def test_the_winners_of_another_process_are_kept(folder: Path) -> None:
    tuned("mine")
    (file,) = folder.iterdir()
    file.write_text(json.dumps({"theirs": SLOW} | json.loads(file.read_text())))
    tuned("mine too")
    assert set(json.loads(file.read_text())) == {"theirs", "mine", "mine too"}


@pytest.mark.parametrize("damage", ["", "{", "[1]"])
def test_a_damaged_file_is_rewritten(folder: Path, damage: str) -> None:
    tuned()
    (file,) = folder.iterdir()
    file.write_text(damage)
    forget()
    assert tuned() == FAST
    assert json.loads(file.read_text()) == {"shape": FAST}


def test_no_tuning_while_a_graph_is_captured_or_in_the_interpreter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tuning.tuned(torch.zeros(1), ("shape",), DEFAULT, lambda: [FAST], take) == DEFAULT
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert tuned() == DEFAULT
    assert not list(folder.iterdir())


def test_a_read_only_folder_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("")
    monkeypatch.setenv("SIAMFAST_CACHE", str(folder / "file" / "below"))
    forget()
    assert tuned() == FAST
