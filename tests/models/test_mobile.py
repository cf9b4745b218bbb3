"""The mobile tracker's network: its geometry, its parts against plain formulas, and the graph that engines run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from siamfast.cli import main
from siamfast.models.mobile import EXEMPLAR, INSTANCE, REGION, MobileArchitecture, Region, SiamMobile, region_values
from siamfast.models.mobile_graph import TARGET, SearchGraph, TemplateGraph
from siamfast.models.mobile_weights import DEFAULT_NAME, load_mobile, start_from
from siamfast.models.mobilenet import _MEAN, _STAGES, _STD, GRAY, MobileNetV2, convert_imagenet, load_imagenet
from siamfast.models.onnx_export import DIGEST
from siamfast.models.weights import default_weights, read_metadata, save_weights


@pytest.fixture(scope="module")
def net() -> SiamMobile:
    """A network with running statistics other than the initial ones, so that an unfolded norm shows."""
    torch.manual_seed(0)
    model = SiamMobile(MobileArchitecture(width=16, blocks=2))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
    nn.init.normal_(model.sides.weight, std=0.1)
    with torch.no_grad():
        model.box_scale.fill_(0.7)
        model.box_bias.fill_(0.2)
    return model.eval()


# ------------------------------------------------------------------------------------------------------------ backbone
def classifier(wrapped: bool) -> nn.Module:
    """MobileNetV2's features in torchvision's layout (`wrapped`) or the older one, with random statistics."""

    def unit(channels: int, out: int, size: int, stride: int, groups: int) -> list[nn.Module]:
        conv = nn.Conv2d(channels, out, size, stride, size // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(out), nn.ReLU6()]

    class Block(nn.Module):
        def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
            super().__init__()
            hidden = channels * expansion
            parts = [unit(channels, hidden, 1, 1, 1)] if expansion > 1 else []
            parts.append(unit(hidden, hidden, 3, stride, hidden))
            last = unit(hidden, out, 1, 1, 1)[:2]
            layers = [nn.Sequential(*part) for part in parts] if wrapped else [m for part in parts for m in part]
            self.conv = nn.Sequential(*layers, *last)
            self.residual = stride == 1 and channels == out

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.conv(x)
            return x + y if self.residual else y

    layers: list[nn.Module] = [nn.Sequential(*unit(3, 32, 3, 2, 1))]
    channels = 32
    for expansion, out, count, stride in _STAGES:
        for index in range(count):
            layers.append(Block(channels, out, stride if index == 0 else 1, expansion))
            channels = out
    net = nn.Module()
    net.features = nn.Sequential(*layers)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return net.eval()


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_converted_backbone_equals_the_classifiers(wrapped: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = classifier(wrapped)
    torch.save(theirs.state_dict(), tmp_path / "imagenet.pt")
    assert main(["convert-backbone", str(tmp_path / "imagenet.pt"), str(tmp_path / "b.safetensors")]) == 0
    model = SiamMobile()
    start_from(model, str(tmp_path / "b.safetensors"))
    images = torch.rand(2, 3, 65, 97) * 255
    ours = MobileNetV2()
    load_imagenet(ours, theirs.state_dict())
    with torch.no_grad():
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _STD))
        # The only difference is outside the image: our zero padding stands for gray, theirs for the mean.
        theirs.features[0][0].padding = (0, 0)
        fine = theirs.features[:7]((F.pad(images, (1, 1, 1, 1), value=GRAY) - mean) / std)
        coarse = theirs.features[7:](fine)
        features = ours(images)
        stored = model.backbone(images)
    torch.testing.assert_close(features.fine, fine, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(features.coarse, coarse, rtol=1e-3, atol=1e-4)
    # float16 on disk: eleven bits per weight, over 14 blocks.
    assert float((stored.coarse - coarse).norm() / coarse.norm()) < 0.02


def test_a_file_without_a_mobilenet_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"features.0.0.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "narrow.pt")
    (tmp_path / "text.pt").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pt")
    for name, text in (
        ("narrow", "width 1"),
        ("text", "not a PyTorch file"),
        ("list", "holds a list, expected a state dict"),
        ("gone", "not a file"),
    ):
        with pytest.raises((ValueError, OSError), match=text):
            convert_imagenet(tmp_path / f"{name}.pt", tmp_path / "out.safetensors")
    assert main(["convert-backbone", str(tmp_path / "text.pt"), str(tmp_path / "out.bin")]) == 2
    assert "expected a name that ends in .safetensors" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


# ------------------------------------------------------------------------------------------------------------ geometry
def test_places_are_the_centers_of_cells() -> None:
    assert SiamMobile.cells(INSTANCE) == len(SiamMobile.places(INSTANCE)) == 19
    places = SiamMobile.places(INSTANCE)
    assert float(places[0]) == 8
    assert float(places[9]) == (INSTANCE - 1) / 2  # the middle cell lies on the middle pixel
    for wrong in (256, 255, 81):
        with pytest.raises(ValueError, match=f"search: got {wrong}"):
            SiamMobile.cells(wrong)


@settings(max_examples=30, deadline=None)
@given(x=st.floats(-40, 120), y=st.floats(-40, 120), w=st.floats(1, 150), h=st.floats(1, 150), first=st.integers(-9, 9))
def test_region_values_are_coverage_and_place(x: float, y: float, w: float, h: float, first: int) -> None:
    """Coverage equals a count at hundredths of a cell's side, and the place equals its plain formula."""
    values = region_values(np.array([[x, y, w, h]]), np.array([[8.0 * first, 8]]))[0]
    steps = (np.arange(800) + 0.5) / 100 - 4
    for row, column in ((0, 0), (8, 9), (12, 3)):
        across, down = 8.0 * first + 8 * column + 0.5, 8.0 + 8 * row + 0.5
        share = ((np.abs(across + steps - x - w / 2) < w / 2).mean()) * (
            np.abs(down + steps - y - h / 2) < h / 2
        ).mean()
        assert float(values[0, row, column]) == pytest.approx(share, abs=0.005)
        place = np.clip([(across - x - w / 2) / (w / 2), (down - y - h / 2) / (h / 2)], -2, 2)
        np.testing.assert_allclose(values[1:, row, column], place, atol=1e-9)


def test_a_match_equals_the_softmax_of_cosines(net: SiamMobile) -> None:
    torch.manual_seed(2)
    query, region = (
        torch.randn(2, 16, 5, 6),
        Region(torch.randn(2, 16, REGION, REGION), torch.rand(2, 3, REGION, REGION)),
    )
    with torch.no_grad():
        maps = net._match(query, region, 1)
        cosines = F.cosine_similarity(query.flatten(2)[..., None], region.embedding.flatten(2)[:, :, None], dim=1)
        weights = torch.softmax(cosines * torch.exp(net.sharpness[1]), 2)
        mask, x, y = (weights @ region.values.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (5, 6)).unbind(1)
    torch.testing.assert_close(maps[:, [0, 2, 3]], torch.stack((mask, x, y), 1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(maps[:, 1], torch.logit(mask) / 4, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(maps[:, 4], weights.amax(2).unflatten(1, (5, 6)), rtol=1e-3, atol=1e-4)


def test_an_unguided_network_ignores_the_last_frame() -> None:
    torch.manual_seed(3)
    net = SiamMobile(MobileArchitecture(width=8, blocks=1, guided=False)).eval()
    with torch.inference_mode():
        template = net.template(torch.rand(1, 3, EXEMPLAR, EXEMPLAR) * 255, torch.tensor([[30.0, 30, 60, 70]]))
        search = torch.rand(2, 3, 161, 161) * 255
        without, with_region = net(template, search), net(template, search, template.region)
    assert without.prediction.scores.shape == without.resemblance.shape == (2, 19, 19)
    assert without.embedding.shape == (2, 8, 21, 21)
    assert torch.equal(without.prediction.boxes, with_region.prediction.boxes)


# -------------------------------------------------------------------------------------------------------------- graphs
@pytest.mark.parametrize("guided", [True, False])
def test_the_graph_equals_the_network(net: SiamMobile, guided: bool) -> None:
    torch.manual_seed(4)
    image = torch.randint(0, 256, (1, INSTANCE, INSTANCE, 3), dtype=torch.uint8)
    exemplar, box = torch.randint_like(torch.empty(1, EXEMPLAR, EXEMPLAR, 3), 256), torch.tensor([[40.0, 30, 50, 70]])
    with torch.no_grad():
        template = net.template(exemplar.permute(0, 3, 1, 2), box)
        target = dict(zip(TARGET, TemplateGraph(net)(exemplar.byte(), box), strict=True))
        last, known = None, torch.tensor([[1.0, 0.0]])
        if guided:
            last, known = Region(torch.randn_like(template.region.embedding), template.region.values), torch.ones(1, 2)
            keys = F.normalize(last.embedding, dim=1) * torch.exp(net.sharpness[1])
            target["keys"][..., REGION**2 :] = keys.flatten(2)
        prediction, resemblance, embedding = net(template, image.permute(0, 3, 1, 2).float(), last)
        quality, boxes, like, same = SearchGraph(net, INSTANCE)(image, *target.values(), known)
    # Folded norms multiply in another order: a few units in the last place per layer, over 40 layers.
    torch.testing.assert_close(same, embedding, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(like, resemblance, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        quality, torch.sigmoid(prediction.scores) * torch.sigmoid(prediction.centerness), rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(boxes, prediction.boxes, rtol=1e-3, atol=0.05)


def test_packaged_graphs_have_no_metadata_but_the_digest() -> None:
    onnx = pytest.importorskip("onnx")
    for suffix in (".template.onnx", ".onnx", ".int8.onnx"):
        graph = onnx.load(default_weights(DEFAULT_NAME).with_suffix(suffix))
        assert [entry.key for entry in graph.metadata_props] == [DIGEST]
        parts = (graph.graph, *graph.graph.node, *graph.graph.value_info, *graph.graph.initializer)
        assert not any(part.doc_string or part.metadata_props for part in parts)


def test_weights_survive_a_round_trip(net: SiamMobile, tmp_path: Path) -> None:
    path = tmp_path / "mobile.safetensors"
    save_weights(net, path, recipe="a test", dtype=torch.float32)
    again = load_mobile(path)
    assert again.architecture == net.architecture
    for name, value in net.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    assert read_metadata(path)["architecture"] == "siam-mobile"


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    from siamfast.models.guided import GuidedSiam

    path = tmp_path / "guided.safetensors"
    save_weights(GuidedSiam(), path, recipe="a test")
    with pytest.raises(ValueError, match="holds the architecture 'siam-guided', expected 'siam-mobile'"):
        load_mobile(path)
    with pytest.raises(ValueError, match="init: .*'siam-guided'"):
        start_from(SiamMobile(), str(path))


@pytest.mark.parametrize("fields", [{"width": 4}, {"blocks": 0}])
def test_an_architecture_out_of_range_is_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(fields))}: got"):
        MobileArchitecture(**fields)
