"""The encoder is ResNet-18 at stride 8, its cells are at their stated places, and its weights can be saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from siamfast.models.correspondence import CorrespondenceEncoder, grid_side
from siamfast.models.correspondence_weights import load_encoder
from siamfast.models.siamfc import SiamFC
from siamfast.models.weights import read_metadata, save_weights


def test_the_encoder_is_resnet_18_without_its_classifier() -> None:
    """11,176,512 parameters: torchvision's resnet18 has 11,689,512, of which 513,000 are the classifier's."""
    encoder = CorrespondenceEncoder()
    assert sum(p.numel() for p in encoder.parameters()) == 11_176_512
    state = encoder.state_dict()
    assert state["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert state["layer4.1.conv2.weight"].shape == (512, 512, 3, 3)
    strides = [m.stride[0] for m in encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert strides.count(2) == 3  # the first, and the second stage's two ways; the maximum pool is the third halving


def test_cells_are_8_pixels_apart_from_the_first_to_the_last() -> None:
    """A shift by 8 pixels is a shift by a cell, away from the border; 8n + 1 pixels have n + 1 cells."""
    encoder = CorrespondenceEncoder(width=8).eval()
    image = torch.rand(1, 3, 401, 409) * 255
    with torch.no_grad():
        features, moved = encoder(image), encoder(image.roll((8, 16), (2, 3)))
    assert features.shape == (1, 64, 51, 52)
    inner = slice(22, 30)
    torch.testing.assert_close(features[:, :, 21:29, 20:28], moved[:, :, inner, inner], rtol=1e-4, atol=1e-5)


def test_a_cells_receptive_field_is_around_its_pixel() -> None:
    encoder = CorrespondenceEncoder(width=8, stages=2).eval()
    image = torch.zeros(1, 3, 161, 161, requires_grad=True)
    encoder(image)[0, :, 10, 12].sum().backward()
    assert image.grad is not None
    pixels = image.grad.abs().sum((0, 1)).nonzero()
    middle = (pixels.amin(0) + pixels.amax(0)) / 2
    assert (middle - torch.tensor([80.0, 96.0])).abs().max() <= 2


@pytest.mark.parametrize(("side", "expected"), [(480, 481), (9, 9), (1, 9), (854, 857)])
def test_grid_side_counts_cells(side: int, expected: int) -> None:
    assert grid_side(side) == expected


@pytest.mark.parametrize("options", [{"width": 8, "stages": 3}, {"width": 12}])
def test_weights_load_with_their_architecture(tmp_path: Path, options: dict[str, int]) -> None:
    encoder = CorrespondenceEncoder(**options).eval()
    save_weights(encoder, tmp_path / "e.safetensors", recipe="drawn", dtype=torch.float32)
    assert read_metadata(tmp_path / "e.safetensors")["architecture"] == "correspondence-resnet18"
    image = torch.rand(1, 3, 65, 65)
    torch.testing.assert_close(load_encoder(tmp_path / "e.safetensors")(image), encoder(image))


def test_a_classifiers_state_dict_loads(tmp_path: Path) -> None:
    state = {k: v for k, v in CorrespondenceEncoder(width=8).state_dict().items() if not k.startswith("input_")}
    torch.save(state | {"fc.weight": torch.zeros(10, 64), "fc.bias": torch.zeros(10)}, tmp_path / "resnet.pth")
    assert load_encoder(tmp_path / "resnet.pth").width == 8


def test_other_weights_are_named(tmp_path: Path) -> None:
    save_weights(SiamFC(), tmp_path / "siamfc.safetensors", recipe="drawn")
    with pytest.raises(ValueError, match="holds no ResNet-18"):
        load_encoder(tmp_path / "siamfc.safetensors")
    state = CorrespondenceEncoder(width=8).state_dict()
    del state["layer3.0.conv1.weight"]
    torch.save(state, tmp_path / "torn.pth")
    with pytest.raises(ValueError, match=r"does not fit a ResNet-18 of width 8: layer3\.0\.conv1\.weight"):
        load_encoder(tmp_path / "torn.pth")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load_encoder(tmp_path / "nowhere")


@pytest.mark.parametrize("options", [{"width": 0}, {"stages": 1}, {"stages": 5}, {"width": 1.5}])
def test_bad_options_are_named(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}: got"):
        CorrespondenceEncoder(**options)


def test_the_packaged_encoder_matches_moved_cells() -> None:
    """After a shift by 16 pixels the cells of a crop of noise match two cells further."""
    import siamfast

    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 40, 40, generator=generator) * 255, (313, 313))
    with torch.no_grad():
        encoder = load_encoder()
        before, now = encoder(image[..., 16:-8, 16:-8]), encoder(image[..., :-24, :-24])
    flow = siamfast.correspondence_warp(now, before, before[:, :0], temperature=0.05, topk=5, returns="flow")
    assert float((flow[0, :, 8:-8, 8:-8] + 2).abs().median()) < 0.3
