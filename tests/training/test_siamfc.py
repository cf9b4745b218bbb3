"""Training learns, resumes exactly, and writes its documented files."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from siamfast.commands.train import add_arguments, configuration
from siamfast.data.mixed_pairs import MixedPairs
from siamfast.data.sequence_pairs import SequencePairs
from siamfast.data.synthetic import SyntheticPairs
from siamfast.io.files import only_writer
from siamfast.models.siamfc_weights import load_model
from siamfast.models.weights import read_metadata
from siamfast.training.config import SiamFCConfig
from siamfast.training.pairs import make_pairs
from siamfast.training.record import Record
from siamfast.training.siamfc import SiamFCTrainer, peak_distance, target_cells
from tests.data.test_pairs import write_sequence

SMALL: dict[str, Any] = {
    "batch_size": 2,
    "instance": 143,
    "max_shift": 4.0,
    "workers": 0,
    "val_pairs": 2,
    "val_every": 100,
    "save_every": 100,
    "log_every": 1,
    "warmup": 2,
    "optimizer": "adamw",
    "lr": 1e-3,
}


def _train(out: Path, **changes: Any) -> SiamFCTrainer:
    trainer = SiamFCTrainer(SiamFCConfig(out=str(out), **(SMALL | changes)))
    trainer.run()
    return trainer


def _same(path: Path, other_path: Path) -> bool:
    first, second = (torch.load(p / "checkpoint.pt", weights_only=True)["model"] for p in (path, other_path))
    return all(torch.equal(first[name], second[name]) for name in first)


def test_training_learns_to_find_the_target(tmp_path: Path) -> None:
    changes = {"steps": 30, "batch_size": 4, "instance": 191, "max_shift": 24.0, "val_every": 30}
    _train(tmp_path, **changes)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:4])  # 0.55; 0.86 where nothing is learned
    assert rows[-1]["step"] == 30
    assert {"validation/loss", "validation/hit_rate", "validation/peak_distance_px"} <= rows[-1].keys()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_run_is_bit_for_bit_an_uninterrupted_one(tmp_path: Path, optimizer: str) -> None:
    changes = {"steps": 4, "optimizer": optimizer, "learn_scale": True}
    _train(tmp_path / "whole", **changes)
    half = SiamFCTrainer(SiamFCConfig(out=str(tmp_path / "halves"), **(SMALL | changes)))
    half.out.mkdir()
    batches = half._batches()
    for _ in range(2):
        half._train_step(next(batches))
        half.step += 1
    half.save()
    resumed = _train(tmp_path / "halves", **changes)
    assert resumed.step == 4
    assert _same(tmp_path / "whole", tmp_path / "halves")


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """SIGKILL in the middle of a real run, then the same command again."""
    _train(tmp_path / "whole", steps=6)
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in (SMALL | {"save_every": 1}).items()]
    command = [sys.executable, "-m", "siamfast.cli", "train", "--steps=6", f"--out={tmp_path / 'killed'}", *flags]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    reached = torch.load(checkpoint, weights_only=True)["step"]
    subprocess.run(command, check=True, capture_output=True)
    assert reached < 6
    assert _same(tmp_path / "whole", tmp_path / "killed")


def test_ctrl_c_says_where_the_same_command_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = SiamFCTrainer(SiamFCConfig(out=str(tmp_path), **(SMALL | {"steps": 6, "save_every": 2})))
    step = trainer._train_step

    def interrupted(batch: Any) -> torch.Tensor:
        if trainer.step == 3:
            raise KeyboardInterrupt
        return step(batch)

    trainer._train_step = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert "stopped after step 3 of 6; the same command resumes at step 2 (--save-every 2)" in capsys.readouterr().out
    for said in ("at step 2 of 6\n", "at step 6 of 6; its validation is made again\n"):
        _train(tmp_path, steps=6, save_every=2)
        assert f"resumed {tmp_path / 'checkpoint.pt'} {said}" in capsys.readouterr().out


def test_workers_do_not_change_what_is_trained(tmp_path: Path) -> None:
    _train(tmp_path / "none", steps=2)
    _train(tmp_path / "two", steps=2, workers=2)
    assert _same(tmp_path / "none", tmp_path / "two")


def test_a_full_disk_is_reported_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    trainer = _train(tmp_path, steps=1)
    trainer.step = 99
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"checkpoint\.pt"):
            trainer.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.load(trainer.checkpoint, weights_only=True)["step"] == 1


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with only_writer(tmp_path, "train"), pytest.raises(ValueError, match="another command is writing there"):
        _train(tmp_path, steps=1)


def test_another_configuration_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    _train(tmp_path, steps=1)
    with pytest.raises(ValueError, match="another configuration .*lr: 0.001 there, 0.5 here"):
        _train(tmp_path, steps=1, lr=0.5)


def test_a_finished_run_leaves_weights_with_their_recipe(tmp_path: Path) -> None:
    _train(tmp_path, steps=1)
    path = tmp_path / "siamfc.safetensors"
    metadata = read_metadata(path)
    assert json.loads(metadata["recipe"])["steps"] == 1
    assert "hit_rate" in json.loads(metadata["figures"])
    assert path.stat().st_size < 6_000_000
    assert load_model(path)(torch.zeros(1, 3, 127, 127), torch.zeros(1, 3, 255, 255)).shape == (1, 1, 17, 17)


def test_tensorboard_gets_scalars_and_response_maps(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _train(tmp_path, steps=2)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert "train/loss" in events.Tags()["scalars"]
    assert any(tag.startswith("validation/response") for tag in events.Tags()["images"])


def test_rows_after_the_checkpoint_are_written_once(tmp_path: Path) -> None:
    record = Record(tmp_path, 0)
    for step in (1, 2, 3):
        record.scalars(step, {"loss": float(step)})
    record.close()
    with (tmp_path / "metrics.jsonl").open("a") as rows:
        rows.write('{"step": 4, "lo')  # torn by the kill
    record = Record(tmp_path, 2)
    record.scalars(3, {"loss": 30.0})
    record.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_a_folder_of_sequences_trains(tmp_path: Path) -> None:
    write_sequence(tmp_path / "data" / "a")
    _train(tmp_path / "run", steps=2, data=str(tmp_path / "data"))
    assert (tmp_path / "run" / "siamfc.safetensors").exists()


@pytest.mark.parametrize("field", ["data", "val_data"])
def test_bad_data_is_named_before_anything_is_written(tmp_path: Path, field: str) -> None:
    with pytest.raises(ValueError, match="data: 'nowhere' is neither 'synthetic' nor a folder"):
        _train(tmp_path / "run", steps=1, **{field: "nowhere"})
    assert not (tmp_path / "run").exists()


def test_a_mixture_draws_data_sets_by_their_weights(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a,b")  # a folder's own comma is no separator where it is given alone
    write_sequence(tmp_path / "c")
    pairs = make_pairs(SiamFCConfig(), f"synthetic=3,folder:{tmp_path / 'c'}", 40, seed=1)
    assert isinstance(pairs, MixedPairs)
    assert [type(part) for part in pairs.datasets] == [SyntheticPairs, SequencePairs]
    assert 20 < sum(pairs.which(i) == 0 for i in range(40)) < 39
    assert isinstance(make_pairs(SiamFCConfig(), str(tmp_path / "a,b"), 4, seed=1), SequencePairs)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("synthetic=x,synthetic", "ends in 'x', expected a weight"),
        ("nowhere=2", "'nowhere' is neither"),
        ("synthetic=-1", "weights: got"),
        ("otb:nowhere", "'nowhere' is neither"),
    ],
)
def test_a_bad_mixture_is_named(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_pairs(SiamFCConfig(), source, 4, seed=1)


def test_a_finished_run_started_again_keeps_its_figures(tmp_path: Path) -> None:
    _train(tmp_path, steps=1)
    path = tmp_path / "siamfc.safetensors"
    figures, rows = read_metadata(path)["figures"], (tmp_path / "metrics.jsonl").read_text()
    _train(tmp_path, steps=1)
    assert read_metadata(path)["figures"] == figures
    assert (tmp_path / "metrics.jsonl").read_text() == rows != ""


def test_a_non_finite_loss_stops_the_run_and_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) at step \d+: lower --lr"):
        _train(tmp_path, steps=30, lr=1e30, warmup=0, optimizer="sgd", lr_end=1e30)


def test_training_starts_from_given_weights(tmp_path: Path) -> None:
    _train(tmp_path / "one", steps=1)
    start = tmp_path / "one" / "siamfc.safetensors"
    trainer = SiamFCTrainer(SiamFCConfig(out=str(tmp_path / "two"), init=str(start), **(SMALL | {"steps": 1})))
    expected = load_model(start).backbone.conv1[0].weight
    torch.testing.assert_close(trainer.model.backbone.conv1[0].weight.float().cpu(), expected.float())


def test_every_field_is_a_flag_with_its_type() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert configuration(parser.parse_args([])) == SiamFCConfig()
    words = ["--steps=7", "--lr=0.5", "--data=x", "--amp=off", "--no-learn-bias"]
    config = configuration(parser.parse_args(words))
    assert (config.steps, config.lr, config.data, config.amp, config.learn_bias) == (7, 0.5, "x", "off", False)
    flags = {action.dest for action in parser._actions}
    assert {field.name for field in dataclasses.fields(SiamFCConfig)} <= flags


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("instance", 100),
        ("exemplar", 50),
        ("gray", 2.0),
        ("lr", 0.0),
        ("max_stretch", 0.9),
        ("workers", -2),
        ("metric", "l3"),
        ("negatives", -0.1),
        ("optimizer", "adam"),
    ],
)
def test_bad_values_are_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field}: got"):
        SiamFCConfig(**{field: value})


def test_the_middle_of_the_crop_is_the_middle_of_the_response() -> None:
    box = torch.tensor([[127.5 - 20, 127.5 - 30, 40, 60], [135.5 - 20, 119.5 - 30, 40, 60]])
    assert target_cells(box, 255, 127).tolist() == [[8, 8], [9, 7]]


def test_peak_distance_is_in_cells() -> None:
    response = torch.zeros(2, 1, 17, 17)
    response[0, 0, 8, 8] = response[1, 0, 4, 11] = 1
    distance = peak_distance(response, torch.tensor([[8.0, 8.0], [8.0, 8.0]]))
    assert distance.tolist() == [0, 5]
