"""Engines for the mobile tracker's network: PyTorch anywhere, or onnxruntime on CPUs, where it is faster."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.geometry import STRIDE, box_centers_by_index
from siamfast.models.mobile import EXEMPLAR, INSTANCE, REGION, MobileTemplate, Region, SiamMobile, region_values
from siamfast.models.mobile_export import DIGEST
from siamfast.models.mobile_graph import INPUTS, OUTPUTS, GraphInputs, graph_inputs
from siamfast.models.quantized import int8_missing

ENGINES = ("auto", "torch", "onnxruntime")


class Search(NamedTuple):
    """quality (h, w) 0 to 1, boxes (4, h, w) left, top, right, bottom in search-crop pixels, and resemblance (h, w) to
    the template's target (`mobile.Located`), float32 arrays; embedding (1, C, H, W), as the engine keeps it."""

    quality: NDArray[np.float32]
    boxes: NDArray[np.float32]
    resemblance: NDArray[np.float32]
    embedding: Any


class Engine(Protocol):
    """start: set the target from a template crop (1, 129, 129, 3) uint8 RGB and the box in it. search: the network's
    output for a search crop (1, S, S, 3). remember: let the region around a box of that crop guide the next search."""

    name: str
    precision: str

    def start(self, crop: NDArray[np.uint8], box: NDArray[np.float64]) -> None: ...

    def search(self, crop: NDArray[np.uint8], *, guided: bool) -> Search: ...

    def remember(self, search: Search, box: NDArray[np.float64]) -> None: ...


def region_start(box: NDArray[np.float64], cells: int) -> tuple[int, int]:
    """x, y of the first of 13 x 13 cells around the middle of a box (x, y, w, h in crop pixels), all within the crop's
    `cells` along a side."""
    first = np.clip(np.rint(box_centers_by_index(box) / STRIDE).astype(int) - REGION // 2, 0, cells - REGION)
    return int(first[0]), int(first[1])


def _template(
    model: SiamMobile, crop: NDArray[np.uint8], box: NDArray[np.float64], device: torch.device
) -> MobileTemplate:
    # (1, S, S, 3) uint8 is (1, 3, S, S) in channels_last: the permutation copies nothing.
    image = torch.from_numpy(crop).to(device).permute(0, 3, 1, 2).float()
    return model.template(image, torch.from_numpy(box[None]).float().to(device))


class TorchEngine:
    """The network in PyTorch.

    Args:
        model: in eval mode; moved to `device`.
        device: where to run.
        precision: float32, bfloat16 or float16.
    """

    name = "torch"

    def __init__(self, model: SiamMobile, device: torch.device, precision: str) -> None:
        self._model: SiamMobile = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device, self.precision = device, precision
        self._target: MobileTemplate | None = None
        self._last: Region | None = None

    def _autocast(self) -> torch.autocast:
        dtype = torch.bfloat16 if self.precision == "float32" else getattr(torch, self.precision)
        return torch.autocast(self._device.type, dtype, enabled=self.precision != "float32")

    def start(self, crop: NDArray[np.uint8], box: NDArray[np.float64]) -> None:
        with torch.inference_mode():  # in float32, because it enters every search
            self._target = _template(self._model, crop, box, self._device)
        self._last = self._target.region

    def search(self, crop: NDArray[np.uint8], *, guided: bool) -> Search:
        assert self._target is not None
        with torch.inference_mode(), self._autocast():
            image = torch.from_numpy(crop).to(self._device).permute(0, 3, 1, 2).float()
            located = self._model(self._target, image, self._last if guided else None)
            prediction = located.prediction
            quality = torch.sigmoid(prediction.scores) * torch.sigmoid(prediction.centerness)
            maps = quality[0], prediction.boxes[0], located.resemblance[0].float()
        quality_, boxes, resemblance = (each.cpu().numpy() for each in maps)
        return Search(quality_, boxes, resemblance, located.embedding)

    def remember(self, search: Search, box: NDArray[np.float64]) -> None:
        x, y = region_start(box, search.embedding.shape[-1])
        values = torch.from_numpy(region_values(box[None], STRIDE * np.array([[x, y]]))).float()
        part = search.embedding[..., y : y + REGION, x : x + REGION].float()
        self._last = Region(part, values.to(self._device))


class OnnxEngine:
    """The search network in onnxruntime on a CPU; the template, once per sequence, in PyTorch.

    It uses one thread: 60 convolutions of some 50 microseconds gain nothing from a second thread that is woken for
    each, and spinning threads halve the speed beside a busy process (docs/weights.md).

    Args:
        model: the same network.
        path: its graph, from `siamfast export`.

    Raises:
        ValueError: onnxruntime cannot load the graph, or it is from another version.
    """

    name = "onnxruntime"

    def __init__(self, model: SiamMobile, path: str | os.PathLike[str]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has its own class for each kind of error
            raise ValueError(f"engine: onnxruntime cannot load {path} ({str(error).splitlines()[0][:200]})") from None
        outputs = tuple(output.name for output in self._session.get_outputs())
        if outputs != OUTPUTS:
            raise ValueError(
                f"engine: {path} gives {', '.join(outputs)}, expected {', '.join(OUTPUTS)}: run siamfast export again"
            )
        self.precision = "int8" if ".int8" in Path(path).name else "float32"
        self.digest = self._session.get_modelmeta().custom_metadata_map.get(DIGEST, "")
        self.recorded: list[dict[str, NDArray[Any]]] | None = None  # a list here records every search
        self._model = model
        self._sharp = float(torch.exp(model.sharpness[-1].detach()))
        self._feed: dict[str, NDArray[Any]] = {}

    def start(self, crop: NDArray[np.uint8], box: NDArray[np.float64]) -> None:
        with torch.inference_mode():
            target = _template(self._model, crop, box, torch.device("cpu"))
            self._feed = _numpy(graph_inputs(self._model, target, target.region))

    def search(self, crop: NDArray[np.uint8], *, guided: bool) -> Search:
        self._feed["known"][1:] = guided
        inputs = {INPUTS[0]: crop, **self._feed}
        if self.recorded is not None:
            self.recorded.append({name: value.copy() for name, value in inputs.items()})
        quality, boxes, resemblance, embedding = self._session.run(None, inputs)
        return Search(quality[0], boxes[0], resemblance[0], embedding)

    def remember(self, search: Search, box: NDArray[np.float64]) -> None:
        x, y = region_start(box, search.embedding.shape[-1])
        values = region_values(box[None], STRIDE * np.array([[x, y]]))[0]
        part = search.embedding[0, :, y : y + REGION, x : x + REGION].reshape(len(search.embedding[0]), -1)
        count = part.shape[1]
        # Like region_rows, without PyTorch's cost per call.
        length = np.maximum(np.sqrt(np.square(part).sum(0)), 1e-12)
        np.multiply(part, self._sharp / length, out=self._feed["keys"][:, count:])
        self._feed["values"][count:, len(values) :] = values.reshape(len(values), -1).T


def _numpy(inputs: GraphInputs) -> dict[str, NDArray[Any]]:
    return {name: value.numpy().copy() for name, value in inputs._asdict().items()}


def graph_path(weights: Path, precision: str = "auto") -> Path | None:
    """The graph beside a file of weights, or None. precision: float32, int8, or "auto": int8 where the CPU has VNNI."""
    fast = [".int8.onnx"] if precision == "int8" or (precision == "auto" and int8_missing() is None) else []
    names = fast if precision == "int8" else [*fast, ".onnx"]
    return next((path for name in names if (path := weights.with_suffix(name)).is_file()), None)


def onnxruntime_missing(weights: Path | None, instance: int, precision: str = "auto") -> str | None:
    """None when onnxruntime can run these weights, else the reason why not."""
    if precision not in ("auto", "float32", "int8"):
        return f"its graphs are in float32 and int8, not in {precision}"
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed (pip install 'siamfast[fast]')"
    if weights is None or graph_path(weights, precision) is None:
        return f"there is no graph (precision {precision!r}) beside the weights; siamfast export writes it"
    if instance != INSTANCE:
        return f"the graph is of search crops of {INSTANCE} pixels, not of {instance}"
    return None


__all__ = ["ENGINES", "EXEMPLAR", "Engine", "OnnxEngine", "Search", "TorchEngine", "graph_path", "onnxruntime_missing"]
