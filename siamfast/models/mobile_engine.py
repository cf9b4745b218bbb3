"""Engines for the mobile tracker's network: PyTorch anywhere, or onnxruntime on CPUs, where it is faster."""

from __future__ import annotations

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.geometry import STRIDE, box_centers_by_index
from siamfast.models.captured import Graphs
from siamfast.models.mobile import EXEMPLAR, INSTANCE, REGION, MobileTemplate, Region, SiamMobile, region_values
from siamfast.models.mobile_graph import INPUTS, OUTPUTS, RANKS, GraphInputs, graph_inputs
from siamfast.models.onnx_export import DIGEST
from siamfast.models.quantized import int8_missing

ENGINES = ("auto", "torch", "onnxruntime")
# Crops in one pass of PyTorch, which bounds its memory. On a CPU those of a pass have to fit its caches: 64 targets
# took 600 ms with 8 in float32, 750 with 16, 770 with 4 (AVX2); in bfloat16 they are half as large.
_TOGETHER = 16


class Search(NamedTuple):
    """The network's output for K crops: quality (K, h, w) 0 to 1, boxes (K, 4, h, w) left, top, right, bottom in
    search-crop pixels, and resemblance (K, h, w) to the template's target (`mobile.Located`), float32 arrays;
    embedding, K of (1, C, H, W), as the engine keeps them."""

    quality: NDArray[np.float32]
    boxes: NDArray[np.float32]
    resemblance: NDArray[np.float32]
    embedding: list[Any]


class Engine(Protocol):
    """The network and what it knows of each target, row by row.

    uploads: the device that frames go to before they are cropped, so that crops are tensors there; None: both are NumPy
    arrays. add: append targets, from template crops (K, 129, 129, 3) uint8 RGB and the boxes (K, 4) in them. keep: keep
    the targets of these rows, in this order. search: the network's output for search crops (K, S, S, 3) of the targets
    in `rows`. remember: let the regions around boxes (K, 4) of those crops guide the next search.
    """

    name: str
    precision: str
    uploads: torch.device | None

    def add(self, crops: Any, boxes: NDArray[np.float64]) -> None: ...

    def keep(self, rows: NDArray[np.int_]) -> None: ...

    def search(self, crops: Any, rows: NDArray[np.int_], *, guided: bool) -> Search: ...

    def remember(self, rows: NDArray[np.int_], embedding: list[Any], boxes: NDArray[np.float64]) -> None: ...


def region_start(boxes: NDArray[np.float64], cells: int) -> NDArray[np.int_]:
    """(K, 2) x, y of the first of 13 x 13 cells around the middles of boxes (K, 4) x, y, w, h in crop pixels, all
    within the crop's `cells` along a side."""
    middle = np.rint(box_centers_by_index(boxes) / STRIDE).astype(int)
    return np.clip(middle - REGION // 2, 0, cells - REGION)


def _template(model: SiamMobile, crops: Any, boxes: NDArray[np.float64], device: torch.device) -> MobileTemplate:
    # (K, S, S, 3) uint8 is (K, 3, S, S) in channels_last: the permutation copies nothing.
    images = torch.as_tensor(crops).to(device).permute(0, 3, 1, 2).float()
    return model.template(images, torch.from_numpy(boxes).float().to(device))


class TorchEngine:
    """The network in PyTorch.

    graphs: what replays searches as CUDA graphs, on GPUs; None: they are launched operation by operation.

    Args:
        model: in eval mode; moved to `device`.
        device: where to run.
        precision: float32, bfloat16 or float16.
    """

    name = "torch"

    def __init__(self, model: SiamMobile, device: torch.device, precision: str) -> None:
        self._model: SiamMobile = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device, self.precision = device, precision
        self.uploads = device if device.type == "cuda" else None
        self.graphs = Graphs(self._step) if device.type == "cuda" else None
        self._together = _TOGETHER // 2 if device.type == "cpu" and precision == "float32" else _TOGETHER
        self._target: MobileTemplate | None = None  # of all targets, and their last regions
        self._last: Region | None = None

    def _autocast(self) -> torch.autocast:
        dtype = torch.bfloat16 if self.precision == "float32" else getattr(torch, self.precision)
        return torch.autocast(self._device.type, dtype, enabled=self.precision != "float32")

    def add(self, crops: Any, boxes: NDArray[np.float64]) -> None:
        with torch.inference_mode():  # in float32, because it enters every search
            for first in range(0, len(crops), self._together):
                part = slice(first, first + self._together)
                target = _template(self._model, crops[part], boxes[part], self._device)
                if self._target is None or self._last is None:
                    self._target, self._last = target, Region(*(each.clone() for each in target.region))
                else:
                    self._target = _joined(self._target, target)
                    self._last = Region(*map(_cat, self._last, target.region))

    def keep(self, rows: NDArray[np.int_]) -> None:
        if self._target is None or self._last is None or not len(rows):
            self._target = self._last = None
            return
        index = torch.from_numpy(rows).to(self._device)
        self._target, self._last = _of(self._target, index), Region(*(each[index] for each in self._last))

    def search(self, crops: Any, rows: NDArray[np.int_], *, guided: bool) -> Search:
        assert self._target is not None
        assert self._last is not None
        parts = []
        for first in range(0, len(rows), self._together):
            index = torch.from_numpy(rows[first : first + self._together]).to(self._device)
            with torch.inference_mode():
                target = _of(self._target, index)
                last = [each[index] for each in self._last] if guided else []
                images = torch.as_tensor(crops[first : first + self._together]).to(self._device)
                step = self.graphs or self._step
                maps, embedding = step(images, target.kernel, *target.region, target.sides, *last)
            array = maps.cpu().numpy()  # the only time that the host waits for the device
            parts.append(Search(array[:, 0], array[:, 1:5], array[:, 5], list(embedding.split(1))))
        return _joined_searches(parts)

    def _step(
        self,
        images: torch.Tensor,
        kernel: torch.Tensor,
        embedding: torch.Tensor,
        values: torch.Tensor,
        sides: torch.Tensor,
        *last: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The maps of Search in one tensor (K, 6, h, w), and the embedding, from search crops (K, S, S, 3) uint8, the
        parts of a template, and those of the last regions or none."""
        with self._autocast():
            target = MobileTemplate(kernel, Region(embedding, values), sides)
            located = self._model(target, images.permute(0, 3, 1, 2).float(), Region(*last) if last else None)
            prediction = located.prediction
            quality = torch.sigmoid(prediction.scores) * torch.sigmoid(prediction.centerness)
            maps = torch.cat((quality[:, None], prediction.boxes, located.resemblance[:, None].float()), 1)
        return maps, located.embedding

    def remember(self, rows: NDArray[np.int_], embedding: list[Any], boxes: NDArray[np.float64]) -> None:
        assert self._last is not None
        starts = region_start(boxes, embedding[0].shape[-1])
        values = torch.from_numpy(region_values(boxes, STRIDE * starts.astype(np.float64))).float().to(self._device)
        with torch.inference_mode():
            index = torch.from_numpy(rows).to(self._device)
            parts = [e[..., y : y + REGION, x : x + REGION] for e, (x, y) in zip(embedding, starts, strict=True)]
            self._last.embedding[index] = torch.cat(parts).float()
            self._last.values[index] = values


def _cat(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.cat((a, b))


def _joined(a: MobileTemplate, b: MobileTemplate) -> MobileTemplate:
    return MobileTemplate(_cat(a.kernel, b.kernel), Region(*map(_cat, a.region, b.region)), _cat(a.sides, b.sides))


def _of(template: MobileTemplate, index: torch.Tensor) -> MobileTemplate:
    region = Region(*(each[index] for each in template.region))
    return MobileTemplate(template.kernel[index], region, template.sides[index])


def _joined_searches(parts: list[Search]) -> Search:
    """One result for the crops of several."""
    if len(parts) == 1:
        return parts[0]
    return Search(
        np.concatenate([part.quality for part in parts]),
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.resemblance for part in parts]),
        [embedding for part in parts for embedding in part.embedding],
    )


class OnnxEngine:
    """The search network in onnxruntime on a CPU; the template, once per sequence, in PyTorch.

    A target is one run on one thread: 60 convolutions of some 50 microseconds gain nothing from a second thread that is
    woken for each, and spinning threads halve the speed beside a busy process (docs/weights.md). Several targets are
    shared out to threads, a run for each: a batch of crops takes as long as the crops one by one (1.55 ms and 1.48
    each), on two threads 0.83.

    Args:
        model: the same network.
        path: its graph, from `siamfast export`.

    Raises:
        ValueError: onnxruntime cannot load the graph, or it is from another version.
    """

    name = "onnxruntime"
    uploads: torch.device | None = None

    def __init__(self, model: SiamMobile, path: str | os.PathLike[str]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has its own class for each kind of error
            raise ValueError(f"engine: onnxruntime cannot load {path} ({str(error).splitlines()[0][:200]})") from None
        outputs = tuple(output.name for output in self._session.get_outputs())
        ranks = {each.name: len(each.shape) for each in self._session.get_inputs()}
        if outputs != OUTPUTS or ranks != dict(zip(INPUTS, RANKS, strict=True)):
            raise ValueError(
                f"engine: {path} is another graph than this version's engine runs: make it again by siamfast export "
                f"{Path(path).with_suffix('').stem}.safetensors"
            )
        self.precision = "int8" if ".int8" in Path(path).name else "float32"
        self.digest = self._session.get_modelmeta().custom_metadata_map.get(DIGEST, "")
        self.recorded: list[dict[str, NDArray[Any]]] | None = None  # a list here records every search
        self._model = model
        self._sharp = float(torch.exp(model.sharpness[-1].detach()))
        self._feeds: dict[str, NDArray[Any]] = {}  # the graph's inputs but the image, each (M, ...)

    def add(self, crops: NDArray[np.uint8], boxes: NDArray[np.float64]) -> None:
        feeds = []
        with torch.inference_mode():
            for number in range(len(crops)):
                part = slice(number, number + 1)
                target = _template(self._model, crops[part], boxes[part], torch.device("cpu"))
                feeds.append(_numpy(graph_inputs(self._model, target, target.region)))
        for name in feeds[0]:
            old = [self._feeds[name]] if name in self._feeds else []
            self._feeds[name] = np.concatenate([*old, np.stack([feed[name] for feed in feeds])])

    def keep(self, rows: NDArray[np.int_]) -> None:
        self._feeds = {name: values[rows] for name, values in self._feeds.items()} if len(rows) else {}

    def search(self, crops: NDArray[np.uint8], rows: NDArray[np.int_], *, guided: bool) -> Search:
        self._feeds["known"][rows, 1:] = guided
        feeds = [
            {INPUTS[0]: crops[i : i + 1], **{name: values[row] for name, values in self._feeds.items()}}
            for i, row in enumerate(rows)
        ]
        if self.recorded is not None:
            self.recorded += [{name: value.copy() for name, value in feed.items()} for feed in feeds]
        threads = min(len(feeds), torch.get_num_threads())
        if threads == 1:
            return _joined_searches([self._run(feed) for feed in feeds])
        return _joined_searches(list(_pool(os.getpid(), threads).map(self._run, feeds)))

    def _run(self, feed: dict[str, NDArray[Any]]) -> Search:
        quality, boxes, resemblance, embedding = self._session.run(None, feed)
        return Search(quality, boxes, resemblance, [embedding])

    def remember(self, rows: NDArray[np.int_], embedding: list[Any], boxes: NDArray[np.float64]) -> None:
        starts = region_start(boxes, embedding[0].shape[-1])
        values = region_values(boxes, STRIDE * starts.astype(np.float64))
        count = values.shape[2] * values.shape[3]
        for row, whole, (x, y), its in zip(rows, embedding, starts, values, strict=True):
            part = whole[0, :, y : y + REGION, x : x + REGION].reshape(whole.shape[1], -1)
            # Like region_rows, without PyTorch's cost per call.
            length = np.maximum(np.sqrt(np.square(part).sum(0)), 1e-12)
            np.multiply(part, self._sharp / length, out=self._feeds["keys"][row, :, count:])
            self._feeds["values"][row, count:, len(its) :] = its.reshape(len(its), -1).T


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The threads that share out targets. By process: one that was forked has none of its parent's threads. Threads
    of each call would start cold: 8 targets took 19.3 ms with them, 15.7 with these."""
    return ThreadPoolExecutor(threads, "siamfast-targets")


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
