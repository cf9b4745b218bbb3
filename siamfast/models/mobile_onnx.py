"""The mobile tracker's network in onnxruntime, on CPUs, where it is faster than in PyTorch."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.geometry import STRIDE
from siamfast.instructions import int8_missing
from siamfast.models.mobile import INSTANCE, REGION, SiamMobile, region_values
from siamfast.models.mobile_engine import Search, joined, region_start
from siamfast.models.mobile_graph import OUTPUTS, RANKS, TARGET
from siamfast.models.onnx_export import DIGEST, digest

TEMPLATE = ".template.onnx"  # suffix of the template network's graph


class OnnxEngine:
    """The network in onnxruntime on a CPU.

    A target is one run on one thread: 60 convolutions of some 50 microseconds gain nothing from a second thread that is
    woken for each, and spinning threads halve the speed beside a busy process (docs/weights.md). Several targets are
    shared out to threads, a run for each: a batch of crops takes as long as the crops one by one (1.55 ms and 1.48
    each), on two threads 0.83.

    Args:
        model: the same network.
        weights: its file, with the graphs of `siamfast export` beside it.
        path: the search network's graph.

    Raises:
        ValueError: onnxruntime cannot load a graph, or it is from another version or of other weights.
    """

    name = "onnxruntime"
    uploads: torch.device | None = None

    def __init__(self, model: SiamMobile, weights: Path, path: Path) -> None:
        made_of = digest(weights)
        self._session = _open(path, weights, made_of, OUTPUTS, RANKS)
        template = weights.with_suffix(TEMPLATE)
        if not template.is_file():
            raise ValueError(f"engine: {template} is missing: run siamfast export {weights}, which writes all graphs")
        self._template = _open(template, weights, made_of, TARGET)
        self.precision = "int8" if ".int8" in path.name else "float32"
        self.recorded: list[dict[str, NDArray[Any]]] | None = None  # a list here records every search
        self._regions = 2 if model.architecture.guided else 1
        self._sharp = float(torch.exp(model.sharpness[-1].detach()))
        self._feeds: dict[str, NDArray[Any]] = {}  # the graph's inputs but the image, each (M, ...)

    def add(self, crops: NDArray[np.uint8], boxes: NDArray[np.float64]) -> None:
        inputs: list[dict[str, NDArray[Any]]] = [
            {"image": crops[i : i + 1], "box": boxes[i : i + 1].astype(np.float32)} for i in range(len(crops))
        ]
        targets = _shared_out(lambda feed: self._template.run(None, feed), inputs)
        new = {name: np.concatenate([target[i] for target in targets]) for i, name in enumerate(TARGET)}
        new["known"] = np.ones((len(crops), self._regions), np.float32)
        for name, values in new.items():
            self._feeds[name] = np.concatenate([*([self._feeds[name]] if name in self._feeds else []), values])

    def keep(self, rows: NDArray[np.int_]) -> None:
        self._feeds = {name: values[rows] for name, values in self._feeds.items()} if len(rows) else {}

    def search(self, crops: NDArray[np.uint8], rows: NDArray[np.int_], *, guided: bool) -> Search:
        self._feeds["known"][rows, 1:] = guided
        feeds = [
            {"image": crops[i : i + 1], **{name: values[row : row + 1] for name, values in self._feeds.items()}}
            for i, row in enumerate(rows)
        ]
        if self.recorded is not None:
            self.recorded += [{name: value.copy() for name, value in feed.items()} for feed in feeds]
        return joined(_shared_out(self._run, feeds))

    def _run(self, feed: dict[str, NDArray[Any]]) -> Search:
        quality, boxes, resemblance, embedding = self._session.run(None, feed)
        return Search(quality, boxes, resemblance, [embedding])

    def remember(self, rows: NDArray[np.int_], embedding: list[Any], boxes: NDArray[np.float64]) -> None:
        starts = region_start(boxes, embedding[0].shape[-1])
        values = region_values(boxes, STRIDE * starts.astype(np.float64))
        count = values.shape[2] * values.shape[3]
        for row, whole, (x, y), its in zip(rows, embedding, starts, values, strict=True):
            part = whole[0, :, y : y + REGION, x : x + REGION].reshape(whole.shape[1], -1)
            length = np.maximum(np.sqrt(np.square(part).sum(0)), 1e-12)
            np.multiply(part, self._sharp / length, out=self._feeds["keys"][row, :, count:])
            self._feeds["values"][row, count:, len(its) :] = its.reshape(len(its), -1).T


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The threads that share out targets. By process: one that was forked has none of its parent's threads. Threads
    of each call would start cold: 8 targets took 19.3 ms with them, 15.7 with these."""
    return ThreadPoolExecutor(threads, "siamfast-targets")


def _shared_out(call: Callable[[dict[str, NDArray[Any]]], Any], feeds: list[dict[str, NDArray[Any]]]) -> list[Any]:
    """The results of `call`, one target a thread."""
    threads = min(len(feeds), torch.get_num_threads())
    return list((map if threads == 1 else _pool(os.getpid(), threads).map)(call, feeds))


def _open(
    path: Path, weights: Path, made_of: str, outputs: tuple[str, ...], ranks: dict[str, int] | None = None
) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own class for each kind of error
        raise ValueError(f"engine: onnxruntime cannot load {path} ({str(error).splitlines()[0][:200]})") from None
    found = {each.name: len(each.shape) for each in session.get_inputs()}
    if tuple(output.name for output in session.get_outputs()) != outputs or (ranks or found) != found:
        raise ValueError(
            f"engine: {path} is another graph than this version's engine runs: make it again by siamfast export "
            f"{weights}"
        )
    if session.get_modelmeta().custom_metadata_map.get(DIGEST) != made_of:
        raise ValueError(
            f"engine: {path} was made of other weights than {weights}: delete it, or run siamfast export {weights}"
        )
    return session


def graph_path(weights: Path, precision: str = "auto") -> Path | None:
    """The search network's graph beside a file of weights, or None.

    precision: float32, int8, or "auto": int8 where the CPU has VNNI.
    """
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
