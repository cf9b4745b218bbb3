"""The network equals SiamFC's; checkpoints of three layouts load, and keys that do not fit are listed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from siamfast.instructions import int8_missing
from siamfast.models.inference import Embedder, choose_precision
from siamfast.models.siamfc import SiamFC
from siamfast.models.siamfc_weights import load_model
from siamfast.models.weights import read_metadata, save_weights


def _model(seed: int = 0) -> SiamFC:
    """A model with BatchNorm statistics from data, so that folding them is tested."""
    torch.manual_seed(seed)
    model = SiamFC(bias=-1.5, input_mean=118.0, input_std=60.0)
    model.train()
    for _ in range(4):
        model(torch.rand(4, 3, 127, 127) * 255, torch.rand(4, 3, 159, 159) * 255)
    return model.eval()


def test_sizes_and_parameters_equal_the_papers() -> None:
    model = SiamFC().eval()
    assert model.embed(torch.zeros(1, 3, 127, 127)).shape == (1, 256, 6, 6)
    assert model.embed(torch.zeros(1, 3, 255, 255)).shape == (1, 256, 22, 22)
    assert model(torch.zeros(2, 3, 127, 127), torch.zeros(6, 3, 255, 255)).shape == (6, 1, 17, 17)
    assert sum(p.numel() for p in model.backbone.parameters()) == 2_336_320
    assert (model.backbone.conv1[1].eps, model.backbone.conv1[1].momentum) == (1e-6, 0.05)


def test_eight_pixels_are_one_cell() -> None:
    model, image = _model(), torch.rand(1, 3, 167, 167) * 255
    shifted, plain = model.embed(image[..., 8:, 8:]), model.embed(image[..., :-8, :-8])
    torch.testing.assert_close(shifted[..., :-1, :-1], plain[..., 1:, 1:], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("layout", ["siamfc-pytorch", "siamfc-pytorch-1", "strangerzhang"])
def test_checkpoints_of_other_projects_load(tmp_path: Path, layout: str) -> None:
    model = _model()
    model.bias.data.fill_(0.0)
    model.input_mean.zero_()
    model.input_std.fill_(1.0)
    own = model.state_dict()
    if layout == "siamfc-pytorch":
        state = {k: v for k, v in own.items() if k.startswith("backbone.")}
    else:
        places = {(1, 0): 0, (1, 1): 1, (2, 0): 4, (2, 1): 5, (3, 0): 8, (3, 1): 9, (4, 0): 11, (4, 1): 12, (5, 0): 14}
        state = {"corr_bias": torch.tensor([-0.25])} if layout == "strangerzhang" else {}
        attribute = "features" if layout == "strangerzhang" else "feature"
        for key, value in own.items():
            if key.startswith("backbone."):
                _, stage, index, name = key.split(".")
                state[f"{attribute}.{places[int(stage[-1]), int(index)]}.{name}"] = value
    torch.save(state, tmp_path / "other.pth")
    loaded = load_model(tmp_path / "other.pth")
    z, x = torch.rand(1, 3, 127, 127) * 255, torch.rand(1, 3, 255, 255) * 255
    bias = -0.25 if layout == "strangerzhang" else 0.0
    tolerance = 1e-3 if layout == "strangerzhang" else 1e-5  # their BatchNorm's eps is not ours
    torch.testing.assert_close(loaded(z, x), model(z, x) + bias, atol=tolerance, rtol=tolerance)


def test_missing_and_unexpected_keys_are_listed(tmp_path: Path) -> None:
    state = _model().state_dict()
    del state["backbone.conv3.0.weight"]
    state["backbone.conv9.0.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=r"missing backbone.conv3.0.weight; unexpected backbone.conv9.0.weight"):
        load_model(tmp_path / "odd.pth")


def test_another_architecture_is_named(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(ValueError, match="no known layout .*another architecture"):
        load_model(tmp_path / "resnet.pth")
    wide = dict(_model().state_dict().items())
    wide["backbone.conv1.0.weight"] = torch.zeros(64, 3, 11, 11)
    torch.save(wide, tmp_path / "wide.pth")
    with pytest.raises(
        ValueError, match=r"another architecture .*conv1.0.weight has shape \(64, 3, 11, 11\), expected"
    ):
        load_model(tmp_path / "wide.pth")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.write_text, (tmp_path / "ran", "x"))

    torch.save({"backbone.conv1.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="cannot be loaded as tensors"):
        load_model(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_files_without_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ValueError, match="neither a safetensors nor a PyTorch file"):
        load_model(tmp_path / "text.safetensors")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load_model(tmp_path / "nothing.pth")


def test_saved_weights_load_with_their_metadata(tmp_path: Path) -> None:
    model, path = _model(), tmp_path / "w.safetensors"
    save_weights(model, path, recipe={"steps": 3}, figures={"ao": 0.5}, commit="abc")
    metadata = read_metadata(path)
    assert (metadata["architecture"], metadata["commit"]) == ("siamfc-alexnet", "abc")
    assert metadata["recipe"] == '{"steps": 3}'
    loaded = load_model(path)
    z, x = torch.rand(1, 3, 127, 127) * 255, torch.rand(1, 3, 255, 255) * 255
    # Convolution weights are kept in float16: 11 bits.
    torch.testing.assert_close(loaded(z, x), model(z, x), atol=0.02, rtol=0.02)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize(("precision", "allowed"), [("float32", 1e-4), ("bfloat16", 0.03), ("int8", 0.12)])
def test_inference_precisions_keep_the_features(precision: str, allowed: float) -> None:
    """Relative RMS of the search features against the model in training form, small enough for tracking."""
    if precision == "int8" and int8_missing() is not None:
        pytest.skip(str(int8_missing()))
    model = _model()
    crops = (torch.rand(3, 16, 16, 3) * 255).permute(0, 3, 1, 2)
    crops = torch.nn.functional.interpolate(crops, (255, 255), mode="bicubic").clamp(0, 255).to(torch.uint8)
    images = crops.permute(0, 2, 3, 1).contiguous()
    embedder = Embedder(model, torch.device("cpu"), precision)
    with torch.inference_mode():
        template = embedder.template(images[:1, 64:191, 64:191].contiguous(), images)
        expected = model.embed(crops)
        features = embedder.search(images)
        torch.testing.assert_close(template, model.embed(crops[:1, :, 64:191, 64:191]), atol=1e-3, rtol=1e-3)
    assert (features - expected).square().mean().sqrt() <= allowed * expected.square().mean().sqrt()


def test_bad_precisions_are_named() -> None:
    with pytest.raises(ValueError, match="precision: got 'int4', expected one of"):
        choose_precision("int4", torch.device("cpu"))
    with pytest.raises(ValueError, match="input_std: got 0.0"):
        SiamFC(input_std=0.0)


def test_emulated_bfloat16_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ran at 1.3 frames a second where float32 runs at 5.4."""
    monkeypatch.setattr("siamfast.models.inference.fast_bfloat16", lambda device: False)
    with pytest.warns(UserWarning, match="this CPU has no instructions for"):
        assert choose_precision("bfloat16", torch.device("cpu")) == "bfloat16"
