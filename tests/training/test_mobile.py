"""Training of the mobile tracker: its batches, resume, validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from siamfast.cli import main
from siamfast.data.draws import Draws
from siamfast.models.mobile_weights import load_mobile
from siamfast.training.config import MobileConfig
from siamfast.training.mobile import MobileTrainer

SMALL: dict[str, Any] = {
    "batch_size": 2,
    "steps": 4,
    "workers": 0,
    "val_pairs": 2,
    "log_every": 1,
    "head_width": 8,
    "head_blocks": 1,
    "instance": 193,
    "warmup": 1,
    "init": "",
}


def trainer(out: Path, **changes: Any) -> MobileTrainer:
    return MobileTrainer(MobileConfig(out=str(out), **(SMALL | changes)))


def test_a_resumed_run_is_bit_for_bit_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", save_every=2)
    whole.run()
    first = trainer(tmp_path / "parts", save_every=2)
    first.config.out = str(tmp_path / "parts")
    batches = first._batches()
    (tmp_path / "parts").mkdir()
    for _ in range(2):
        first._train_step(next(batches))
        first.step += 1
    first.save()
    second = trainer(tmp_path / "parts", save_every=2)
    second.run()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
    uninterrupted, resumed = (
        load_mobile(tmp_path / run / "mobile.safetensors").state_dict() for run in ("whole", "parts")
    )
    assert all(torch.equal(value, resumed[name]) for name, value in uninterrupted.items())


def test_the_moving_average_is_validated_and_written(tmp_path: Path) -> None:
    run = trainer(tmp_path, average=0.6)
    weight = run.model.score.weight
    expected, values = None, []
    step = run._train_step

    def watched(batch: dict[str, torch.Tensor]) -> float:
        nonlocal expected
        loss = step(batch)
        value, count = weight.detach().clone(), len(values)
        decay = min(0.6, (1 + count) / (10 + count))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        values.append(value)
        return loss

    validated = []
    validate = run.validate
    run._train_step = watched  # type: ignore[method-assign]
    run.validate = lambda record: validated.append(run.model.score.weight.clone()) or validate(record)  # type: ignore
    run.run()
    assert expected is not None
    assert not torch.equal(expected, values[-1])
    torch.testing.assert_close(validated[-1], expected)
    # float16 on disk
    torch.testing.assert_close(
        load_mobile(tmp_path / "mobile.safetensors").score.weight, expected.cpu(), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_the_backbone_is_frozen_unless_it_has_a_learning_rate(tmp_path: Path, rate: float) -> None:
    run = trainer(tmp_path, backbone_rate=rate, weight_decay=0.0)
    before = {name: value.clone() for name, value in run.model.backbone.state_dict().items()}
    run.run()
    moved = [name for name, value in run.model.backbone.state_dict().items() if not torch.equal(value, before[name])]
    assert bool(moved) == (rate > 0)


def test_validation_measures_the_gain_from_the_guide(tmp_path: Path) -> None:
    figures = trainer(tmp_path).run()
    assert {"loss", "guided_overlap", "unguided_overlap", "misguided_overlap"} <= figures.keys()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert "validation/guided_hit_rate" in rows[-1]
    twin = trainer(tmp_path / "twin", guided=False).run()
    assert set(twin) == {"loss", "unguided_overlap", "unguided_hit_rate"}
    assert not load_mobile(tmp_path / "twin" / "mobile.safetensors").architecture.guided


def test_cut_search_crops_keep_the_targets_place(tmp_path: Path) -> None:
    run = trainer(tmp_path, instance=257, smallest=193)
    sides = set()
    for seed in range(30):
        search, box = torch.rand(2, 3, 257, 257), torch.tensor([[100.0, 90, 60, 70], [80, 80, 50, 40]])
        batch = run._to_device({"search": search, "box": box})
        cut = run._cut(batch, Draws(torch.Generator().manual_seed(seed)))
        side = cut["search"].shape[-1]
        sides.add(side)
        x, y = (int(v) for v in cut["box"][0, :2])
        assert torch.equal(cut["search"][0, :, y, x].cpu(), search[0, :, 90, 100])
    assert sides == {193, 209, 225, 241, 257}


def test_a_dropped_guide_has_no_effect(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.model.eval()
    batch = run._to_device(next(run._batches()))
    batch |= {name: batch[name].float() for name in ("template", "recent", "search")}
    with torch.no_grad():
        dropped_for_all = torch.zeros(2, dtype=torch.bool, device=run.device)
        kept_for_all = ~dropped_for_all
        dropped = run._predict(batch, batch["recent_box"], dropped_for_all)
        other = run._predict(batch, batch["recent_box"] + 20, dropped_for_all)
        guided = run._predict(batch, batch["recent_box"], kept_for_all)
    assert torch.equal(dropped.boxes, other.boxes)
    assert not torch.equal(dropped.boxes, guided.boxes)


def test_the_weights_of_a_run_can_start_another(tmp_path: Path) -> None:
    trainer(tmp_path / "first").run()
    path = str(tmp_path / "first" / "mobile.safetensors")
    second = trainer(tmp_path / "second", init=path, guided=False)
    theirs = load_mobile(path).state_dict()
    assert torch.equal(second.model.state_dict()["fine.weight"].cpu(), theirs["fine.weight"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"instance": 200}, "instance: got 200, expected a multiple of 16 and 1 more"),
        ({"smallest": 97}, "smallest: got 97, expected between exemplar and instance"),
        ({"exemplar": 145, "instance": 193}, "exemplar: got 145, expected 129"),
        ({"wrong_guidance": 2.0}, "wrong_guidance: got 2.0"),
        ({"head_width": 2}, "width: got 2"),
    ],
)
def test_a_bad_configuration_is_named(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MobileConfig(**(SMALL | changes))


def test_static_pairs_need_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--task", "mobile", "--init", "", "--data", "static", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "give --photos FOLDER too" in capsys.readouterr().err
    assert main([*words[:-2], "--photos", str(tmp_path / "gone"), "--out", str(tmp_path / "run")]) == 2
    assert "photos: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
