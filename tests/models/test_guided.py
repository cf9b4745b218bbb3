"""The guided network: geometry exact to the pixel, a guide that follows motion and starts without effect."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from siamfast.data.synthetic import SyntheticVideo
from siamfast.geometry import STRIDE
from siamfast.models.backbones import BACKBONES, AlexNetBackbone, ResNetBackbone
from siamfast.models.correspondence_weights import load_encoder
from siamfast.models.guidance import CHANNELS, Guide, target_maps
from siamfast.models.guided import GuidedArchitecture, GuidedSiam
from siamfast.models.guided_weights import load_guided, start_from
from siamfast.models.siamfc_weights import load_model
from siamfast.models.weights import save_weights
from siamfast.training.config import GuidedConfig
from siamfast.training.guided import GuidedTrainer

ALL_CHANNELS = "+".join(CHANNELS)


# ------------------------------------------------------------------------------------------------------------ geometry
@pytest.mark.parametrize(
    ("backbone", "search", "cells", "first"),
    [("resnet", 289, 17, 79), ("resnet", 303, 19, 79), ("alexnet", 303, 17, 87), ("alexnet", 255, 11, 87)],
)
def test_scores_have_siamfc_pps_sizes_and_offsets(backbone: str, search: int, cells: int, first: float) -> None:
    net = GuidedSiam(GuidedArchitecture(backbone, guidance="", gate=False)).eval()
    assert net.cells(127, search) == cells
    assert net.first_pixel(127) == first
    with torch.inference_mode():
        prediction = net(net.template(torch.zeros(1, 3, 127, 127)), torch.zeros(2, 3, search, search))
    assert prediction.scores.shape == prediction.centerness.shape == (2, cells, cells)
    assert prediction.boxes.shape == (2, 4, cells, cells)


@pytest.mark.parametrize("backbone", list(BACKBONES))
@pytest.mark.parametrize("search", [255, 271, 289, 290, 303, 310])
def test_a_cell_is_at_the_templates_copy(backbone: str, search: int) -> None:
    """The template itself, pasted 8 k pixels from the search crop's corner, correlates best at the cell of its middle,
    for all search sides and both backbones. Cells are counted without the head's border."""
    torch.manual_seed(0)
    net = GuidedSiam(GuidedArchitecture(backbone, guidance="", gate=False)).eval()
    if backbone == "alexnet":
        start_from(net, "siamfc")
    else:
        net.backbone.body.load_state_dict(load_encoder().state_dict(), strict=False)
    template = torch.from_numpy(SyntheticVideo(5, length=2, size=(127, 127)).frame(0)).permute(2, 0, 1)[None].float()
    place = 8 * 12 + (search % 3)
    image = torch.full((1, 3, search, search), 118.0)
    image[..., place : place + 127, 64 : 64 + 127] = template
    with torch.inference_mode():
        z, x = net.backbone(template), net.backbone(image)
        z = z - z.mean((2, 3), keepdim=True)
        size = nn.functional.conv2d(x.square().sum(1, keepdim=True), torch.ones_like(z[:, :1])).sqrt()
        score = nn.functional.conv2d(x, z) / size
    best = int(score.argmax())
    row, column = divmod(best, score.shape[-1])
    rim = STRIDE * net.backbone.head_convs
    middle = [net.first_pixel(127) - rim + STRIDE * cell for cell in (column, row)]
    assert abs(middle[0] - (64 + 63)) <= 4
    assert abs(middle[1] - (place + 63)) <= 4


@pytest.mark.parametrize(("kind", "side"), [("alexnet", 303), ("alexnet", 255), ("resnet", 289)])
def test_features_are_centered_at_the_stated_pixels(kind: str, side: int) -> None:
    """With untrained, positive weights, changing one pixel changes the nearest cell most."""
    backbone = BACKBONES[kind]()
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    if isinstance(backbone, AlexNetBackbone):
        backbone.input_mean.zero_()
    backbone.eval()
    count = backbone.cells(side)
    assert count == {("alexnet", 303): 28, ("alexnet", 255): 22, ("resnet", 289): 25}[kind, side]
    image = torch.zeros(1, 3, side, side)
    cell = count // 2
    pixel = backbone.first + STRIDE * cell
    image[..., pixel - 2 : pixel + 3, pixel - 2 : pixel + 3] = 255
    with torch.inference_mode():
        moved = (backbone(image) - backbone(torch.zeros_like(image))).abs().sum((0, 1))
    weight = moved / moved.sum()
    axis = torch.arange(count, dtype=torch.float32)
    assert abs(float((weight.sum(0) * axis).sum()) - cell) < 0.3
    assert abs(float((weight.sum(1) * axis).sum()) - cell) < 0.3


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="search: got 150 pixels"):
        GuidedSiam().cells(127, 150)
    with pytest.raises(ValueError, match="side: got 60 pixels"):
        AlexNetBackbone().cells(60)
    with pytest.raises(ValueError, match="side: got 60 pixels"):
        ResNetBackbone().cells(60)
    wrong: dict[str, Any] = {"backbone": "vgg", "width": 2, "guidance": "mask+x"}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name}: got"):
            GuidedArchitecture(**{name: value})


# ----------------------------------------------------------------------------------------------------------- the guide
@pytest.mark.parametrize(("backbone", "side"), [("alexnet", 303), ("alexnet", 255), ("resnet", 289)])
@pytest.mark.parametrize("moved", [(0, 0), (16, -24), (-40, 8)])
def test_the_warped_mask_follows_the_target(backbone: str, side: int, moved: tuple[int, int]) -> None:
    """A textured square moves by known pixels over a textured background; the mask's mean and the flow follow it."""
    ground, target = (
        torch.from_numpy(SyntheticVideo(seed, length=2, size=(n, n)).frame(0)).permute(2, 0, 1)[None].float()
        for seed, n in ((8, side), (9, 64))
    )
    corner = side // 2 - 32
    previous, search = ground.clone(), ground.clone()
    previous[..., corner : corner + 64, corner : corner + 64] = target
    x, y = corner + moved[0], corner + moved[1]
    search[..., y : y + 64, x : x + 64] = target
    net = GuidedSiam(GuidedArchitecture(backbone, guidance=ALL_CHANNELS))
    guide = Guide(load_encoder(), net.backbone, net.architecture.names)
    guidance = guide(search, previous, torch.tensor([[corner, corner, 64.0, 64.0]]))
    place = net.backbone.first + STRIDE * torch.arange(net.backbone.cells(side)) + 0.5
    weight = (guidance.mask[0] > 0.5).float()
    weight /= weight.sum()
    middle = float((weight.sum(0) * place).sum()), float((weight.sum(1) * place).sum())
    assert abs(middle[0] - (x + 32)) < 6, middle  # cells are 8 pixels apart, and see more than the target
    assert abs(middle[1] - (y + 32)) < 6, middle
    assert 0.5 < float(guidance.trust[0, 1]) < 1.5
    names = net.architecture.names
    maps = dict(zip(names, guidance.maps.split([CHANNELS[name] for name in names], 1), strict=True))
    certain = guidance.mask > 0.9
    flow = 10 * STRIDE * maps["flow"].permute(0, 2, 3, 1)[certain].median(0).values
    torch.testing.assert_close(flow.abs(), torch.tensor(moved).abs().float(), atol=6.0, rtol=0)
    direction = maps["direction"][0, 0]  # to the right on the target's left, to the left on its right
    columns = (place >= x) & (place < x + 32), (place >= x + 32) & (place < x + 64)
    rows = (place >= y + 16) & (place < y + 48)
    assert float(direction[rows][:, columns[0]].mean()) > 0.3 > -0.3 > float(direction[rows][:, columns[1]].mean())


def test_guidance_maps_match_their_names() -> None:
    place = 3.5 + STRIDE * torch.arange(20.0)
    boxes = torch.tensor([[40.0, 60.0, 32.0, 16.0], [float("nan")] * 4, [70.2, 70.1, 2.0, 2.0]])
    maps = target_maps(boxes, place, ["mask", "scaled", "gaussian", "center", "direction"])
    torch.testing.assert_close(maps["mask"].sum((1, 2, 3))[[0, 2]] * 64, torch.tensor([512.0, 4.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(maps["scaled"].sum((1, 2, 3))[0], torch.tensor(25.0))
    assert all(float(m[1].abs().max()) == 0 for m in maps.values())
    for name in ("gaussian", "center"):
        weight = maps[name][0, 0] / maps[name][0].sum()
        assert abs(float((weight.sum(0) * place).sum()) - 56) < 0.5
        assert abs(float((weight.sum(1) * place).sum()) - 68) < 0.5
    assert float(maps["gaussian"].max()) <= 1
    assert maps["direction"].shape == (3, 2, 20, 20)


# ----------------------------------------------------------------------------------------------------------- the start
@pytest.mark.parametrize("non_local", [False, True])
def test_an_untrained_guide_changes_nothing(non_local: bool) -> None:
    torch.manual_seed(0)
    net = GuidedSiam(GuidedArchitecture(guidance=ALL_CHANNELS, non_local=non_local)).eval()
    unguided = GuidedSiam(GuidedArchitecture(guidance="", gate=False)).eval()
    unguided.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("fusion.")})
    guide = Guide(load_encoder(), net.backbone, net.architecture.names)
    search, previous = torch.rand(2, 2, 3, 255, 255).unbind(0)
    template = torch.rand(2, 3, 127, 127) * 255
    with torch.inference_mode():
        guidance = guide(search * 255, previous * 255, torch.tensor([[100.0, 90, 50, 60]] * 2))
        expected = unguided(unguided.template(template), search * 255)
        for given in (guidance, None):
            for a, b in zip(net(net.template(template), search * 255, given), expected, strict=True):
                assert torch.equal(a, b)


def test_training_does_not_change_the_encoder(tmp_path: Path) -> None:
    config = GuidedConfig(
        out=str(tmp_path),
        steps=3,
        batch_size=2,
        workers=0,
        val_pairs=2,
        guidance=ALL_CHANNELS,
        non_local=True,
        lr=1e-2,
        warmup=0,
        own_boxes=1.0,
    )
    trainer = GuidedTrainer(config)
    assert trainer.guide is not None

    def digest() -> str:
        assert trainer.guide is not None
        state = trainer.guide.encoder.state_dict()
        return hashlib.sha256(b"".join(v.cpu().numpy().tobytes() for v in state.values())).hexdigest()

    before, mix = digest(), trainer.model.fusion.mix.weight.clone()  # type: ignore[union-attr]
    trainer.run()
    assert digest() == before
    assert not any(p.grad is not None for p in trainer.guide.encoder.parameters())
    assert not torch.equal(trainer.model.fusion.mix.weight, mix)  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------------- weights
def test_weights_load_with_their_architecture(tmp_path: Path) -> None:
    net = GuidedSiam(GuidedArchitecture("resnet", 32, "flow+center", False, True)).eval()
    save_weights(net, tmp_path / "w.safetensors", recipe="a test", dtype=torch.float32)
    back = load_guided(tmp_path / "w.safetensors")
    assert back.architecture == net.architecture
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), back.state_dict().values(), strict=True))


def test_default_weights_stay_below_8_mb(tmp_path: Path) -> None:
    save_weights(GuidedSiam(), tmp_path / "w.safetensors", recipe="a test")
    assert (tmp_path / "w.safetensors").stat().st_size < 8e6


def test_training_can_start_from_siamfc_or_an_unguided_twin(tmp_path: Path) -> None:
    net, unguided = GuidedSiam(), GuidedSiam(GuidedArchitecture(guidance="", gate=False))
    start_from(unguided, "siamfc")
    siamfc = load_model().backbone.state_dict()
    assert all(torch.equal(v, siamfc[k]) for k, v in unguided.backbone.body.state_dict().items())
    save_weights(unguided, tmp_path / "w.safetensors", recipe="a test", dtype=torch.float32)
    start_from(net, str(tmp_path / "w.safetensors"))
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in unguided.state_dict().items())
    with pytest.raises(ValueError, match="SiamFC's AlexNet, but the backbone is resnet"):
        start_from(GuidedSiam(GuidedArchitecture("resnet")), "siamfc")
    with pytest.raises(ValueError, match="another backbone or width"):
        start_from(GuidedSiam(GuidedArchitecture(width=32)), str(tmp_path / "w.safetensors"))
    save_weights(load_model(), tmp_path / "s.safetensors", recipe="a test")
    with pytest.raises(ValueError, match="holds the architecture 'siamfc-alexnet', expected 'siam-guided'"):
        load_guided(tmp_path / "s.safetensors")
