"""Write graphs of the mobile tracker for onnxruntime beside its weights: in float32, and in 8 bits."""

from __future__ import annotations

import copy
import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from siamfast.io.files import replacing
from siamfast.models.mobile import EXEMPLAR, INSTANCE, SiamMobile
from siamfast.models.mobile_graph import INPUTS, OUTPUTS, SearchGraph, graph_inputs
from siamfast.models.mobilenet import MobileNetV2

_FIRST = 3  # the first convolution in 8 bits: the one after the stem and the first block
DIGEST = "weights_sha256"  # key in the graph's metadata: digest of its file of weights


def digest(weights: Path) -> str:
    """SHA-256 of a file of weights, in hexadecimal."""
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def write_graph(graph: Any, weights: Path, suffix: str) -> Path:
    """Write a graph beside its weights, as "mobile.onnx" or "mobile.int8.onnx" for "mobile.safetensors".

    Args:
        graph: from `trace` or `quantize`; its large constants become float16.
        weights: their file; the graph stores its digest.

    Raises:
        OSError: it cannot be written.
    """
    import onnx

    graph = copy.deepcopy(graph)
    _store_half(graph)
    _forget_sources(graph)
    onnx.helper.set_model_props(graph, {DIGEST: digest(weights)})
    onnx.checker.check_model(graph)
    path = weights.with_suffix(suffix)
    with replacing(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    return path


def trace(model: SiamMobile) -> Any:
    """The graph in float32, an onnx.ModelProto. ImportError: onnx or onnxscript is not installed."""
    image = torch.zeros(1, INSTANCE, INSTANCE, 3, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        template = model.template(torch.zeros(1, 3, EXEMPLAR, EXEMPLAR), torch.tensor([[32.5, 32.5, 64, 64]]))
        inputs = (image, *graph_inputs(model, template, template.region))
        program = torch.onnx.export(
            SearchGraph(model, INSTANCE),
            inputs,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def quantize(graph: Any, calibration: list[dict[str, NDArray[Any]]]) -> Any:
    """The graph with the convolutions of its backbone in 8 bits: uint8 activations per tensor, int8 weights per
    channel.

    Args:
        graph: from `trace`.
        calibration: inputs recorded while tracking, by name; they set the ranges of the activations.
    """
    import tempfile

    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._inputs = iter(calibration)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self._inputs, None)

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, small = (str(Path(folder) / name) for name in ("plain.onnx", "prepared.onnx", "small.onnx"))
        onnx.save(graph, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        prepared_graph = onnx.load(prepared)
        quantize_static(
            prepared,
            small,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Add", "Clip", "Relu"],
            nodes_to_exclude=_exact_nodes(prepared_graph),
            extra_options={"ActivationSymmetric": False},
        )
        return onnx.load(small)


def _exact_nodes(graph: Any) -> list[str]:
    """Names of the nodes that stay in float32: the first block, and all after the backbone.

    The latter (embedding, matching and head) are a tenth of the work, and in 8 bits their boxes are coarse; the former
    is no slower, because 8 bits gain nothing on 3 channels. AO on the sequences of docs/weights.md: .65 with the head
    in 8 bits, .695 with the first block, .709 with neither and without any.
    """
    backbone = sum(isinstance(module, nn.Conv2d) for module in MobileNetV2().modules())
    names = [node.name for node in graph.graph.node]
    convolutions = [place for place, node in enumerate(graph.graph.node) if node.op_type == "Conv"]
    return names[: convolutions[_FIRST]] + names[convolutions[backbone] :]


def _forget_sources(graph: Any) -> None:
    """Remove the exporter's notes on every node: paths and line numbers of files on the exporting machine."""
    for part in (graph, graph.graph, *graph.graph.node, *graph.graph.value_info, *graph.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for part in (*graph.graph.input, *graph.graph.output):
        part.ClearField("metadata_props")


def _store_half(graph: Any) -> None:
    """Store large float32 constants as float16 with a cast back: half the file size; onnxruntime casts once, on
    loading."""
    import onnx
    from onnx import numpy_helper

    casts = []
    for tensor in graph.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or int(np.prod(tensor.dims)) < 1000:
            continue
        values = numpy_helper.to_array(tensor)
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    for number, node in enumerate(casts):
        graph.graph.node.insert(number, node)
