"""Write graphs of the mobile tracker for onnxruntime beside its weights: in float32, and in 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn

from siamfast.models.mobilenet import MobileNetV2
from siamfast.models.onnx_export import DIGEST, digest, quantize_graph, write_onnx


def int8_convolutions() -> dict[str, Any]:
    """The convolutions in 8 bits, as `quantize_graph` takes them: the backbone's, after its stem and its first block.

    The rest stays in float32. Embedding, matching and head are a tenth of the work, and in 8 bits their boxes are
    coarse; the first block is no slower, because 8 bits gain nothing on 3 channels. AO on the sequences of
    docs/weights.md: .65 with the head in 8 bits, .695 with the first block, .709 with neither and without any.
    """
    return {"first": 3, "last": sum(isinstance(module, nn.Conv2d) for module in MobileNetV2().modules())}


def write_graph(graph: Any, weights: Path, suffix: str) -> Path:
    """Write a graph beside its weights, as "mobile.onnx" for "mobile.safetensors".

    Args:
        graph: from `to_onnx` or `quantize`; its large constants become float16.
        weights: their file; the graph stores its digest.
        suffix: ".template.onnx", ".onnx" or ".int8.onnx".

    Raises:
        OSError: it cannot be written.
    """
    return write_onnx(graph, weights.with_suffix(suffix), {DIGEST: digest(weights)}, half=True)


def quantize(graph: Any, calibration: list[dict[str, NDArray[Any]]]) -> Any:
    """The graph with the convolutions of its backbone in 8 bits: uint8 activations per tensor, int8 weights per
    channel.

    Args:
        graph: the search network's, from `to_onnx`.
        calibration: inputs recorded while tracking, by name; they set the ranges of the activations.
    """
    return quantize_graph(graph, calibration, **int8_convolutions())
