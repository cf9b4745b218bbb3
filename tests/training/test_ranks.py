"""Several processes train as one does: DistributedDataParallel by torchrun, gradients in parts, resume after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from siamfast.data.augmentation import draw_augmentation
from siamfast.data.draws import Draws
from siamfast.training import ranks
from siamfast.training.config import SiamFCConfig
from siamfast.training.siamfc import SiamFCTrainer
from tests.threads import threads
from tests.training.together import ALL, RUNS, train

TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
# Figures that a float32 sum in another order changes in the last digits, over three steps of training.
CLOSE = {"rtol": 2e-4, "atol": 1e-6}


def _figures(out: Path) -> list[dict[str, float]]:
    """The recorded rows, without timings."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if "per_second" not in k and "wait" not in k} for row in rows]


def _same_figures(first: Path, second: Path) -> None:
    for one, other in zip(_figures(first), _figures(second), strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_allclose([other[k] for k in one], list(one.values()), err_msg=str([*one]), **CLOSE)


def _torchrun(*command: str, restarts: int = 0) -> subprocess.Popen[str]:
    """Two processes of a program, in a process group of their own."""
    return subprocess.Popen(
        [*TWO, f"--max-restarts={restarts}", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As torchrun gives each of its processes; on busy cores several threads wait for each other."""
    with threads(1):
        yield


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two")
    process = _torchrun("-m", "tests.training.together", str(out))
    printed, _ = process.communicate(timeout=280)
    assert process.returncode == 0, printed[-2000:]
    return out


@pytest.mark.parametrize("task", RUNS)
def test_two_processes_have_the_losses_of_one(task: str, two_processes: Path, tmp_path: Path) -> None:
    train(task, tmp_path)
    _same_figures(tmp_path, two_processes / task)
    weights, others = (load_file(out / f"{task}.safetensors") for out in (tmp_path, two_processes / task))
    assert {name: v.shape for name, v in weights.items()} == {name: v.shape for name, v in others.items()}


def test_one_process_goes_on_with_a_run_of_two(two_processes: Path, tmp_path: Path) -> None:
    """The number of processes may change when a run is resumed."""
    train("siamfc", tmp_path)
    out = two_processes / "siamfc"
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    state["step"] = 2  # as if it had been stopped there, with the weights of the end
    torch.save(state, tmp_path / "checkpoint.pt")
    train("siamfc", tmp_path)
    assert [row["step"] for row in _figures(tmp_path)] == [1, 2, 3, 3]


def test_a_killed_process_is_restarted_and_the_run_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"save_every": 1, "val_every": 100, "steps": 6}
    train("siamfc", tmp_path / "one", **settings)
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in (ALL | RUNS["siamfc"] | settings).items()]
    process = _torchrun("-m", "siamfast", "train", f"--out={tmp_path / 'two'}", *flags, restarts=1)
    checkpoint = tmp_path / "two" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    victim = _rank(1, process.pid)
    os.kill(victim, signal.SIGKILL)
    reached = torch.load(checkpoint, weights_only=True)["step"]
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0, printed[-2000:]
    assert reached < 6, "the run ended before the kill"
    assert "resumed" in printed
    _same_figures(tmp_path / "one", tmp_path / "two")


def _rank(number: int, parent: int) -> int:
    """The id of a child process with this RANK in its environment."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            of = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if of == parent and f"\0RANK={number}\0" in (entry / "environ").read_text():
                return int(entry.name)
        except OSError:  # it has ended meanwhile
            continue
    raise AssertionError(f"no process has RANK={number}")


def _losses(out: Path, **changes: Any) -> list[float]:
    train("siamfc", out, **changes)
    return [row["train/loss"] for row in _figures(out) if "train/loss" in row]


def test_parts_of_a_batch_give_its_step_but_for_batch_norm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With statistics that do not change, the parts' gradients add up to the batch's."""
    monkeypatch.setattr(SiamFCTrainer, "prepare", _without_batch_norm(SiamFCTrainer.prepare))
    whole = _losses(tmp_path / "whole")
    np.testing.assert_allclose(_losses(tmp_path / "parts", accumulate=4), whole, **CLOSE)
    assert len(set(whole)) == len(whole)


def _without_batch_norm(prepare: Any) -> Any:
    def changed(self: SiamFCTrainer, *rest: Any) -> Any:
        self.model.eval()
        return prepare(self, *rest)

    return changed


def test_a_part_of_a_batch_gets_the_draws_of_its_rows() -> None:
    options: dict[str, Any] = {"shift": 8, "stretch": 0.2, "flip": 0.5, "color_jitter": 0.3, "noise": 9, "cutout": 0.5}
    whole = draw_augmentation(12, (90, 80), torch.Generator().manual_seed(4), **options)
    for part in range(3):
        draws = draw_augmentation(4, (90, 80), Draws(torch.Generator().manual_seed(4), part, 3), **options)
        assert torch.equal(draws, whole[4 * part : 4 * part + 4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 6, "accumulate": 4}, "batch_size: got 6, expected a multiple of 4"),
        ({"batch_size": 8, "accumulate": 2, "balance": "batch"}, "balance: got 'batch', which weighs a whole batch"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        SiamFCTrainer(SiamFCConfig(out=str(tmp_path), **changes))


@pytest.mark.parametrize(
    ("variables", "device", "message"),
    [
        ({"WORLD_SIZE": "two"}, "cpu", "WORLD_SIZE: got 'two' in the environment"),
        ({"WORLD_SIZE": "0"}, "cpu", "WORLD_SIZE: got 0"),
        ({"WORLD_SIZE": "2"}, "cpu", "RANK: not set in the environment, but WORLD_SIZE is 2"),
        ({"WORLD_SIZE": "2", "RANK": "-1", **MEETING}, "cpu", "RANK: got '-1'"),
        ({"WORLD_SIZE": "2", "RANK": "2", **MEETING}, "cpu", "RANK: got 2 in the environment, expected 0 to 1"),
        ({"WORLD_SIZE": "2", "RANK": "0", **MEETING, "MASTER_PORT": "abc"}, "cpu", "MASTER_PORT: got 'abc'"),
        ({"WORLD_SIZE": "2", "RANK": "0", **MEETING}, "cuda:1", "device: got 'cuda:1' for 2 processes, expected auto"),
    ],
)
def test_a_wrong_environment_is_one_line(
    variables: dict[str, str], device: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        ranks.join(device)


def test_processes_that_are_not_there_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", **MEETING}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "PATIENCE", 1)
    with pytest.raises(OSError, match="the other process of the training could not be reached at 127.0.0.1:1"):
        ranks.join("cpu")
