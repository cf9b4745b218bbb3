"""Programs of torch.export: they load where siamfast is not, compute what the networks do, and take any batch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from siamfast.cli import main
from siamfast.deploy.folder import MODELS
from siamfast.models.weights import default_weights

_SCRIPT = """
import sys, torch
folder = sys.argv[1]
given = torch.load(f"{folder}/given.pt")
for name, inputs in given.items():
    out = torch.export.load(f"{folder}/{name}.pt2").module()(*inputs)
    torch.save(list(out) if isinstance(out, (tuple, list)) else [out], f"{folder}/{name}.out.pt")
assert "siamfast" not in sys.modules
"""


@pytest.mark.parametrize("model", MODELS)
def test_programs_compute_without_siamfast_what_the_networks_do(model: str, tmp_path: Path) -> None:
    assert main(["export", str(tmp_path / "p"), "--model", model, "--format", "torch", "--batch", "dynamic"]) == 0
    tracker = MODELS[model].make(default_weights(MODELS[model].weights), 2)
    torch.manual_seed(0)
    given, true = {}, {}
    for name, network in (("template", tracker.template), ("search", tracker.search)):
        inputs = [
            torch.randint(0, 256, t.shape, dtype=torch.uint8) if t.dtype == torch.uint8 else t
            for t in network.inputs.values()
        ]
        given[name] = inputs
        with torch.no_grad():
            out = network.module.eval()(*inputs)
        true[name] = list(out) if isinstance(out, (tuple, list)) else [out]
    torch.save(given, tmp_path / "p" / "given.pt")
    subprocess.run([sys.executable, "-c", _SCRIPT, str(tmp_path / "p")], cwd=tmp_path, check=True, timeout=600)
    about = json.loads((tmp_path / "p" / "tracker.json").read_text())
    for name, outputs in true.items():
        results = torch.load(tmp_path / "p" / f"{name}.out.pt")
        assert len(about["programs"][name]["outputs"]) == len(outputs) == len(results)
        for ours, theirs in zip(outputs, results, strict=True):
            # Sums in another order, and convolutions of another memory format, in float32.
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4 * float(ours.abs().max()))


def test_another_exports_constants_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tracker.json").write_text('{"graphs": {}}')
    assert main(["export", str(tmp_path), "--model", "siamfc", "--format", "torch"]) == 2
    assert "tracker.json: is of another export" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tracker.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "torch"], "--format: got torch without --model"),
        (
            ["--model", "mobile", "--format", "torch", "--precision", "int8"],
            "--precision: got int8 with --format torch",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("p" if "--model" in words else "w.safetensors")
    assert main(["export", str(path), *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
