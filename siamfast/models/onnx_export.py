"""Networks as ONNX graphs: traced, quantized to 8 bits, and written."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from siamfast.io.files import replacing

DIGEST = "weights_sha256"  # key in a graph's metadata: digest of the file of weights that it was made of
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_BETWEEN = ("Relu", "Clip", "MaxPool", "Add")  # nodes that `half_graph` converts behind a convolution


class Network(NamedTuple):
    """A network to export: its module, an example, with a batch of N, of each of its inputs by name, and the names of
    its outputs."""

    module: nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: Sequence[str]


def check_packages() -> None:
    """Check that the packages of this module are installed. ValueError: it names those that are missing."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"export: needs {', '.join(missing)}: pip install {' '.join(missing)}")


def digest(weights: Path) -> str:
    """SHA-256 of a file of weights, in hexadecimal."""
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def to_onnx(network: Network, *, dynamic: bool = False) -> Any:
    """A network in float32 as an onnx.ModelProto.

    Args:
        network: its module is put into eval mode.
        dynamic: whether the first dimension of all inputs, at least 2 in the examples, is left open.

    Raises:
        ImportError: onnx or onnxscript is not installed.
    """
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} for _ in network.inputs) if dynamic else None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is not installed
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            network.module.eval(),
            tuple(network.inputs.values()),
            input_names=list(network.inputs),
            output_names=list(network.outputs),
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def quantize_graph(
    graph: Any, calibration: Iterable[dict[str, NDArray[Any]]], *, first: int, last: int, pool: bool = False
) -> Any:
    """The graph with convolutions in 8 bits: uint8 activations per tensor, int8 weights per channel.

    Args:
        graph: from `to_onnx`.
        calibration: inputs recorded while tracking, by name; they set the ranges of the activations.
        first, last: the first convolution in 8 bits, and the first one behind them, counted from 0. All nodes before
            and behind stay in float32.
        pool: whether max pools are in 8 bits too.
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
        quantize_static(
            prepared,
            small,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Add", "Clip", "Relu", *(["MaxPool"] if pool else [])],
            nodes_to_exclude=_outside(onnx.load(prepared), first, last),
            extra_options={"ActivationSymmetric": False},
        )
        return onnx.load(small)


def _outside(graph: Any, first: int, last: int) -> list[str]:
    """Names of the nodes before the convolution `first`, and of the convolution `last` and all nodes behind it."""
    names = [node.name for node in graph.graph.node]
    places = [place for place, node in enumerate(graph.graph.node) if node.op_type == "Conv"] + [len(names)]
    return names[: places[first]] + names[places[last] :]


def half_graph(graph: Any) -> Any:
    """The graph with its convolutions, and what lies between two of them, in float16; all else stays in float32.

    Inputs and outputs keep their types. Correlations (convolutions with computed weights), softmax and norms stay in
    float32: they sum up to thousands of products, and their constants underflow in float16.

    Args:
        graph: from `to_onnx`.
    """
    import onnx
    from onnx import TensorProto, numpy_helper

    graph = copy.deepcopy(graph)
    parts = graph.graph
    parts.ClearField("value_info")  # their types change
    constants = {tensor.name: tensor for tensor in parts.initializer}
    cast: dict[str, str] = {}  # tensors by the name in the original graph: their name in float16
    nodes: list[Any] = []
    inside: set[str] = set()  # tensors that converted nodes make

    def in_half(name: str) -> str:
        if name not in cast:
            cast[name] = f"{name}.half"
            if name in constants:
                values = numpy_helper.to_array(constants[name]).astype(np.float16)
                parts.initializer.append(numpy_helper.from_array(values, cast[name]))
            else:
                nodes.append(onnx.helper.make_node("Cast", [name], [cast[name]], to=TensorProto.FLOAT16))
        return cast[name]

    for node in parts.node:
        convolution = node.op_type == "Conv" and node.input[1] in constants
        if convolution or (node.op_type in _BETWEEN and inside.intersection(node.input)):
            inputs = [in_half(name) if name else "" for name in node.input]
            (output,) = node.output
            inside.add(output)
            cast[output] = f"{output}.half"
            del node.input[:], node.output[:]
            node.input.extend(inputs)
            node.output.append(cast[output])
            nodes.append(node)
            nodes.append(onnx.helper.make_node("Cast", [cast[output]], [output], to=TensorProto.FLOAT))
        else:
            nodes.append(node)
    _replace_nodes(graph, nodes)
    return graph


def _replace_nodes(graph: Any, nodes: Sequence[Any]) -> None:
    """Put these nodes in place of the graph's, without those nodes and constants whose results nothing uses."""
    parts = graph.graph
    used = {output.name for output in parts.output}
    kept = []
    for node in reversed(nodes):
        if used.intersection(node.output):
            kept.append(copy.deepcopy(node))
            used.update(node.input)
    constants = [tensor for tensor in parts.initializer if tensor.name in used]
    del parts.node[:], parts.initializer[:]
    parts.node.extend(reversed(kept))
    parts.initializer.extend(constants)


def write_onnx(graph: Any, path: Path, properties: Mapping[str, str], *, half: bool = False) -> Path:
    """Write a graph with `properties` as its metadata; half: its large constants in float16.

    Raises:
        OSError: it cannot be written.
    """
    import onnx

    graph = copy.deepcopy(graph)
    if half:
        _store_half(graph)
    _forget_sources(graph)
    onnx.helper.set_model_props(graph, dict(properties))
    onnx.checker.check_model(graph)
    with replacing(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    return path


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
