"""The encoder learns from unlabelled clips by either signal, resumes exactly, and leaves weights that load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from siamfast.cli import main
from siamfast.models.correspondence_weights import load_encoder
from siamfast.models.weights import read_metadata
from siamfast.training import signals
from siamfast.training.config import CorrespondenceConfig
from siamfast.training.correspondence import CorrespondenceTrainer

SMALL: dict[str, Any] = {
    "batch_size": 2,
    "side": 65,
    "width": 8,
    "workers": 0,
    "val_pairs": 2,
    "val_every": 1000,
    "save_every": 1000,
    "log_every": 1,
    "warmup": 2,
    "cycle": 3,
}


def _train(out: Path, **changes: Any) -> CorrespondenceTrainer:
    trainer = CorrespondenceTrainer(CorrespondenceConfig(out=str(out), **(SMALL | changes)))
    trainer.run()
    return trainer


def _losses(out: Path) -> list[float]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row["train/loss"] for row in rows if "train/loss" in row]


@pytest.mark.parametrize("signal", ["cycle", "color"])
def test_either_signal_can_be_learned(tmp_path: Path, signal: str) -> None:
    _train(tmp_path, signal=signal, steps=25, batch_size=4, lr=2e-3)
    losses = _losses(tmp_path)
    assert np.mean(losses[-8:]) < 0.85 * np.mean(losses[:4])


def test_a_resumed_run_is_bit_for_bit_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole", steps=4)
    half = CorrespondenceTrainer(CorrespondenceConfig(out=str(tmp_path / "halves"), **(SMALL | {"steps": 4})))
    half.out.mkdir()
    batches = half._batches()
    for _ in range(2):
        half._train_step(next(batches))
        half.step += 1
    half.save()
    resumed = _train(tmp_path / "halves", steps=4)
    assert resumed.step == 4
    for one, other in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_command_trains_on_folders_of_frames_and_writes_loadable_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b/img"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(6):
            image = cv2.resize(rng.integers(0, 255, (9, 12, 3), np.uint8), (120, 90))
            cv2.imwrite(str(tmp_path / "videos" / name / f"{number}.jpg"), image)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in (SMALL | {"steps": 2}).items()]
    words = ["train", "--task=correspondence", f"--data={tmp_path / 'videos'}", f"--out={tmp_path / 'run'}", *flags]
    assert main(words) == 0
    path = tmp_path / "run" / "correspondence.safetensors"
    metadata = read_metadata(path)
    assert metadata["architecture"] == "correspondence-resnet18"
    assert json.loads(metadata["recipe"])["data"] == "videos"
    assert {"cycle_cells", "color_loss"} <= json.loads(metadata["figures"]).keys()
    assert load_encoder(path)(torch.zeros(1, 3, 65, 65)).shape == (1, 64, 9, 9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task=correspondence", "--instance=255"], "--instance: not an option of --task correspondence"),
        (["--signal=cycle"], "--signal: not an option of --task siamfc"),
        (["--task=correspondence", "--side=160"], "side: got 160, expected a multiple of 8 and 1 more"),
        (["--task=correspondence", "--data=nowhere"], "data: 'nowhere' is neither 'synthetic' nor a folder"),
    ],
)
def test_bad_flags_are_named_in_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_videos_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data: no folder with two images or more"):
        _train(tmp_path / "run", data=str(tmp_path))


def test_perfect_features_close_every_cycle() -> None:
    """Each cell has its own code, moved from frame to frame: cycles return to their cells; the last shift is known."""
    codes = torch.eye(49).view(49, 7, 7)
    views = torch.stack([codes.roll(t, 2) for t in range(4)] + [codes.roll(1, 1)])[None]
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    places = torch.stack((x, (y - 1) % 7))[None]  # row 0 of the last view shows row 6 of the first
    loss, distances = signals.cycle_loss(views, places, longest=3, temperature=0.01)
    assert float(loss) < 1e-3
    assert distances.shape == (3 + 2, 49)
    wrong, _ = signals.cycle_loss(views, places.flip(-1), longest=3, temperature=0.01)
    assert float(wrong) > 1


def test_cells_outside_the_first_view_do_not_count() -> None:
    views = torch.randn(1, 3, 4, 5, 5)
    places = torch.full((1, 2, 5, 5), -3.0)
    places[0, :, 2, 2] = 1.0
    _, distances = signals.cycle_loss(views, places, longest=2)
    assert distances.shape[1] == 1


def test_color_loss_is_the_likelihood_of_the_warped_distribution() -> None:
    """For codes that match their cells the loss is -log of a weight near 1, without a second softmax."""
    codes = 5 * torch.eye(25).view(25, 5, 5)
    labels = torch.arange(25).view(5, 5) % signals.COLORS
    frames = torch.stack([codes, codes.roll(1, 2), codes.roll(2, 2), codes.roll(3, 2)])[None]
    truth = torch.stack([labels, labels.roll(1, 1), labels.roll(2, 1), labels.roll(3, 1)])[None]
    assert float(signals.color_loss(frames, truth)) < 1e-3
    assert float(signals.color_loss(frames, truth.flip(-1))) > 2


def test_colors_are_lab_and_are_recovered_by_the_clusters() -> None:
    frames = torch.zeros(1, 3, 17, 17, dtype=torch.uint8)
    frames[:, 0] = 255  # red: a = 80.1, b = 67.2 (CIE Lab, D65)
    colors = signals.cell_colors(frames)
    torch.testing.assert_close(colors, torch.tensor([80.1, 67.2]).view(1, 2, 1, 1).expand(1, 2, 3, 3), atol=0.3, rtol=0)
    points = torch.cat([torch.full((50, 2), float(10 * k)) for k in range(signals.COLORS)])
    clusters = signals.color_clusters(points + torch.randn(points.shape) * 0.1)
    nearest = torch.cdist(torch.arange(16.0).view(-1, 1).expand(-1, 2) * 10, clusters).amin(1)
    assert float(nearest.max()) < 1
    assert signals.color_labels(colors, clusters).shape == (1, 3, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_frames_are_skipped_and_counted(
    workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, folder = np.random.default_rng(0), tmp_path / "videos" / "a"
    folder.mkdir(parents=True)
    for n in range(12):
        cv2.imwrite(str(folder / f"{n:03d}.png"), rng.integers(0, 256, (80, 100, 3), np.uint8))
    (folder / "005.png").write_bytes(b"no image")
    words = ["train", "--task", "correspondence", "--data", str(tmp_path / "videos"), "--out", str(tmp_path / "run")]
    words += ["--steps", "4", "--workers", str(workers), "--batch-size", "2", "--side", "65", "--width", "8"]
    words += ["--cycle", "3", "--signal", "cycle", "--val-pairs", "2", "--max-gap", "1"]
    assert main(words) == 0
    assert "times a frame could not be read, and another one was drawn" in capsys.readouterr().out
    for path in folder.iterdir():
        path.write_bytes(b"no image")
    words[6] = str(tmp_path / "other")
    assert main(words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line.startswith("siamfast train: error: 20 drawn clips in a row could not be read; the last one: image: ")
