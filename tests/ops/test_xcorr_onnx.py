"""Models with our correlations export to ONNX, in standard operators alone, and onnxruntime gives the same values."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import siamfast
from siamfast.compat import sliced_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class Head(torch.nn.Module):
    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call
        self.adjust = torch.nn.Conv2d(4, 4, 1)
        self.scale = torch.nn.Parameter(torch.tensor([0.5]))

    def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.call(self, z, self.adjust(x))


HEADS = {
    "siamfc": (lambda m, z, x: siamfast.xcorr(z, x, scale=m.scale, bias=-2.0), (1, 4, 3, 3), (3, 4, 8, 9)),
    "siamrpn": (lambda m, z, x: siamfast.xcorr(z, x), (2, 20, 3, 3), (2, 4, 8, 9)),
    "all pairs": (lambda m, z, x: siamfast.xcorr(z, x, pairing="all", padding=1), (2, 8, 3, 3), (3, 4, 8, 9)),
    "siamrpn++": (lambda m, z, x: siamfast.xcorr_depthwise(z, x), (2, 4, 3, 2), (2, 4, 8, 9)),
    "nanotrack": (lambda m, z, x: siamfast.xcorr_depthwise(z, x, padding=1), (1, 4, 4, 4), (1, 4, 8, 8)),
    "lighttrack": (lambda m, z, x: siamfast.xcorr_pixelwise(z, x), (2, 4, 3, 3), (2, 4, 8, 9)),
    "hdn": (lambda m, z, x: siamfast.xcorr_depthwise(z, x, padding="circular-h"), (1, 4, 3, 3), (1, 4, 6, 6)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "sliced"), [*((name, False) for name in HEADS), ("siamrpn++", True), ("nanotrack", True)]
)
def test_onnxruntime_equals_pytorch(name: str, sliced: bool, tmp_path: Path) -> None:
    call, z_shape, x_shape = HEADS[name]
    head, z, x = Head(call).eval(), torch.randn(z_shape), torch.randn(x_shape)
    path = tmp_path / "head.onnx"
    with torch.no_grad(), sliced_onnx() if sliced else nullcontext():
        torch.onnx.export(head, (z, x), str(path), dynamo=True, verbose=False)
        expected = head(z, x).numpy()
    graph = onnx.load(path).graph
    operators = {(node.domain, node.op_type) for node in graph.node}
    convolutions = sum(node.op_type == "Conv" for node in graph.node) - 1  # without the head's own
    assert convolutions == (name in ("siamrpn++", "nanotrack", "hdn") and not sliced)
    assert {domain for domain, _ in operators} <= {"", "ai.onnx"}, operators
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    result = session.run(None, dict(zip(names, (z.numpy(), x.numpy()), strict=True)))[0]
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("templates", ["one", "as many as searches"])
@pytest.mark.parametrize("name", ["siamfc", "siamrpn++", "nanotrack", "lighttrack"])
def test_a_dynamic_batch_stays_dynamic(name: str, templates: str, tmp_path: Path) -> None:
    call, z_shape, x_shape = HEADS[name]
    open_batch = {0: torch.export.Dim("batch", min=1, max=64)}
    head, path, single_template = Head(call).eval(), tmp_path / "head.onnx", templates == "one"
    z, x = torch.randn(1 if single_template else 3, *z_shape[1:]), torch.randn(3, *x_shape[1:])
    with torch.no_grad():
        shapes = {"z": None if single_template else open_batch, "x": open_batch}
        torch.onnx.export(head, (z, x), str(path), dynamo=True, verbose=False, dynamic_shapes=shapes)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for batch in (1, 5):
            z, x = torch.randn(1 if single_template else batch, *z_shape[1:]), torch.randn(batch, *x_shape[1:])
            names = [i.name for i in session.get_inputs()]
            result = session.run(None, dict(zip(names, (z.numpy(), x.numpy()), strict=True)))[0]
            np.testing.assert_allclose(result, head(z, x).numpy(), rtol=1e-4, atol=1e-4)
