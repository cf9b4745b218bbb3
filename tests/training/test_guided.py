"""Training of the guided tracker: targets and losses by hand, previous boxes, resume, validation."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from siamfast.cli import main
from siamfast.commands.train import add_arguments, configuration
from siamfast.data.augmentation import jittered
from siamfast.data.draws import Draws
from siamfast.models.guidance import elsewhere
from siamfast.models.guided import Prediction
from siamfast.models.guided_weights import load_guided
from siamfast.training.box_losses import best_boxes, box_iou, box_loss, make_targets
from siamfast.training.config import CorrespondenceConfig, GuidedConfig
from siamfast.training.guided import GuidedTrainer

SMALL: dict[str, Any] = {
    "batch_size": 2,
    "steps": 4,
    "workers": 0,
    "val_pairs": 2,
    "log_every": 1,
    "head_width": 16,
    "instance": 231,
    "warmup": 1,
}


def trainer(out: Path, **changes: Any) -> GuidedTrainer:
    return GuidedTrainer(GuidedConfig(out=str(out), **(SMALL | changes)))


# ------------------------------------------------------------------------------------------------------------- losses
def test_targets_equal_a_calculation_by_hand() -> None:
    place = 4.0 + 8 * torch.arange(5.0)  # 4, 12, 20, 28, 36
    targets = make_targets(torch.tensor([[10.0, 3.0, 20, 40], [10, 3, 20, 40]]), torch.tensor([True, False]), place)
    assert targets.inside[0].nonzero().tolist() == [[row, column] for row in range(5) for column in (1, 2, 3)]
    assert not targets.inside[1].any()
    # Cell (2, 1) at x 12, y 20: left 2, right 18, top 17, bottom 23.
    assert float(targets.centerness[0, 2, 1]) == pytest.approx(math.sqrt(2 / 18 * 17 / 23))
    assert float(targets.centerness[1].abs().max()) == 0
    assert targets.boxes[0].tolist() == [10, 3, 30, 43]


def test_losses_equal_a_calculation_by_hand() -> None:
    place = torch.tensor([4.0, 12.0])
    targets = make_targets(torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([True]), place)
    scores = torch.tensor([[[1.0, -2.0], [0.5, -0.5]]])
    center = torch.tensor([[[0.3, 9.0], [9.0, 9.0]]])
    boxes = torch.tensor([0.0, 0.0, 8.0, 4.0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    losses = box_loss(Prediction(scores, center, boxes), targets)

    def focal(p: float, alpha: float) -> float:
        return -alpha * (1 - p) ** 2 * math.log(p)

    p = torch.sigmoid(scores)[0]
    expected = focal(float(p[0, 0]), 0.25) + sum(focal(1 - float(p[i, j]), 0.75) for i, j in ((0, 1), (1, 0), (1, 1)))
    assert float(losses["classification"]) == pytest.approx(expected, rel=1e-5)
    assert float(losses["centerness"]) == pytest.approx(-math.log(1 / (1 + math.exp(-0.3))), rel=1e-5)
    assert float(losses["overlap"]) == pytest.approx(0.5)


def test_negatives_train_classification_alone() -> None:
    targets = make_targets(torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([False]), torch.tensor([4.0, 12.0]))
    scores = torch.zeros(1, 2, 2, requires_grad=True)
    losses = box_loss(Prediction(scores, torch.zeros(1, 2, 2), torch.zeros(1, 4, 2, 2)), targets)
    assert float(losses["centerness"]) == float(losses["overlap"]) == 0
    assert float(losses["classification"]) == pytest.approx(4 * 0.75 * 0.25 * math.log(2), rel=1e-5)
    (gradient,) = torch.autograd.grad(losses["classification"], scores)
    assert bool((gradient > 0).all())


def test_overlap_and_best_boxes_equal_a_calculation_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 4, 4]])
    truth = torch.tensor([[5.0, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10]])
    torch.testing.assert_close(box_iou(boxes, truth), torch.tensor([1 / 3, 0.0, 0.0]))
    scores = torch.tensor([[[0.0, 3.0], [2.9, 0.0]]])
    center = torch.tensor([[[0.0, -5.0], [3.0, 0.0]]])
    grid = torch.arange(16.0).view(1, 4, 2, 2)
    assert best_boxes(Prediction(scores, center, grid)).tolist() == [[2.0, 6.0, 10.0, 14.0]]


# ----------------------------------------------------------------------------------------------------- previous boxes
def test_a_box_elsewhere_never_overlaps() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(200, 4, generator=generator) * 80 + 10
    angle, distance = 2 * math.pi * torch.rand(200, generator=generator), 1 + torch.rand(200, generator=generator)
    other = elsewhere(boxes, angle, distance)
    corners = [torch.cat((b[:, :2], b[:, :2] + b[:, 2:]), 1) for b in (boxes, other)]
    assert float(box_iou(*corners).max()) < 0.35  # squares beside one another diagonally may touch
    assert float(box_iou(*corners).median()) == 0
    torch.testing.assert_close(other[1:, 2:], boxes[:-1, 2:])


def test_jitter_is_a_share_of_the_sides() -> None:
    boxes = torch.tensor([[10.0, 20.0, 100.0, 10.0]]).expand(4000, 4)
    drawn = jittered(boxes, torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)), 0.1)
    middle = drawn[:, :2] + drawn[:, 2:] / 2
    torch.testing.assert_close(middle.std(0), torch.tensor([10.0, 1.0]), rtol=0.05, atol=0)
    torch.testing.assert_close((drawn[:, 2:] / boxes[:, 2:]).log().std(0), torch.tensor([0.1, 0.1]), rtol=0.05, atol=0)
    torch.testing.assert_close(jittered(boxes[:1], torch.zeros(1, 4), 0.1), boxes[:1])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"box_jitter": 0, "own_boxes": 0, "wrong_guidance": 0}, "truth"),
        ({"box_jitter": 0, "own_boxes": 0, "wrong_guidance": 1}, "wrong"),
        ({"box_jitter": 0, "own_boxes": 1, "wrong_guidance": 0}, "own"),
    ],
)
def test_the_previous_boxes_follow_the_options(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    run = trainer(tmp_path, batch_size=4, **changes)
    batch = run._to_device(next(run._batches()))
    run.step = run.config.steps  # the schedule's end
    batch |= {name: batch[name].float() for name in ("template", "search", "previous")}
    previous = run._previous_boxes(batch, Draws(torch.Generator().manual_seed(0)))
    if expected == "truth":
        torch.testing.assert_close(previous, batch["previous_box"])
    elif expected == "own":
        torch.testing.assert_close(previous, run._predicted_boxes(batch, torch.arange(4)))
    else:
        corners = [torch.cat((b[:, :2], b[:, :2] + b[:, 2:]), 1) for b in (previous, batch["previous_box"])]
        assert float(box_iou(*corners).max()) < 0.35


def test_neighboring_crops_are_augmented_alike_only_if_asked(tmp_path: Path) -> None:
    for same in (True, False):
        run = trainer(tmp_path, same_augmentation=same, color_jitter=0.5, noise=0.0, blur=0.0, flip=1.0)
        batch = run._to_device(next(run._batches()))
        batch["previous"] = batch["search"]
        batch["previous_box"] = batch["box"]
        augmented = run._augmented(batch, Draws(torch.Generator().manual_seed(1)))
        assert torch.equal(augmented["previous"], augmented["search"]) == same
        assert torch.equal(augmented["previous_box"], augmented["box"])
        mirrored = 231 - batch["box"][:, 0] - batch["box"][:, 2]
        torch.testing.assert_close(augmented["box"][:, 0], mirrored, atol=1e-3, rtol=0)


# --------------------------------------------------------------------------------------------------------------- runs
def test_a_resumed_run_is_bit_for_bit_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", color_weight=1.0, cycle_weight=1.0)
    figures = whole.run()
    half = trainer(tmp_path / "halves", steps=4, save_every=2, color_weight=1.0, cycle_weight=1.0)
    steps = iter(range(2))
    step = half._train_step

    def stops(batch: Any) -> float:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return step(batch)

    half._train_step = stops  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        half.run()
    again = trainer(tmp_path / "halves", steps=4, save_every=2, color_weight=1.0, cycle_weight=1.0)
    assert again.run() == figures
    for name, module in whole.trained().items():
        other = again.trained()[name].state_dict()
        assert all(torch.equal(v, other[k]) for k, v in module.state_dict().items()), name
    assert (tmp_path / "halves" / "correspondence.safetensors").exists()


def test_correspondence_terms_train_the_encoder(tmp_path: Path) -> None:
    for name in ("color_weight", "cycle_weight"):
        run = trainer(tmp_path / name, **{name: 1.0}, steps=1)
        assert run.guide is not None
        before = {k: v.clone() for k, v in run.guide.encoder.state_dict().items()}
        run.run()
        after = run.guide.encoder.state_dict()
        assert any(not torch.equal(v, before[k]) for k, v in after.items() if k.endswith("conv1.weight"))
        assert all(torch.equal(v, before[k]) for k, v in after.items() if "running" in k)


def test_the_command_trains_and_validation_measures_the_reliance_on_the_guide(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "--task", "guided", "--out", str(out), "--init", "siamfc", "--steps", "2", "--batch-size", "2"]
    assert main([*words, "--workers", "0", "--val-pairs", "2", "--instance", "231", "--val-every", "1"]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if "validation/loss" in row][-1]
    for way in ("guided", "unguided", "misguided"):
        assert 0 <= last[f"validation/{way}_overlap"] <= 1
    assert load_guided(out / "guided.safetensors").architecture.guidance == GuidedConfig().guidance


def test_an_unguided_twin_trains_without_a_third_frame(tmp_path: Path) -> None:
    run = trainer(tmp_path, guidance="none", steps=1)
    assert run.guide is None
    assert "previous" not in next(run._batches())
    assert set(run.run()) == {"loss", "unguided_overlap", "unguided_hit_rate"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("guidance", "mask+mask"),
        ("previous", 0),
        ("own_boxes", 1.5),
        ("box_jitter", -1),
        ("head_width", 2),
        ("backbone", "vgg"),
        ("instance", 140),
    ],
)
def test_bad_values_are_named(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(ValueError, match={"head_width": "width", "instance": "search"}.get(field, field)):
        trainer(tmp_path, **{field: value})
    with pytest.raises(ValueError, match="guidance"):
        dataclasses.replace(GuidedConfig(), guidance="none", cycle_weight=1.0)


def test_older_flags_still_work() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    config = configuration(parser.parse_args(["--task", "guided", "--colour-weight", "0.5"]))
    assert isinstance(config, GuidedConfig)
    assert config.color_weight == 0.5
    config = configuration(parser.parse_args(["--task", "correspondence", "--signal", "colour"]))
    assert isinstance(config, CorrespondenceConfig)
    assert config.signal == "color"
