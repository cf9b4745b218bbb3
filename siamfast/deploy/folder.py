"""Export a tracker to a folder: graphs for onnxruntime, its constants as JSON, an example that needs no PyTorch."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.deploy import example_mobile, example_siamfc
from siamfast.geometry import STRIDE
from siamfast.io.files import replacing
from siamfast.models import mobile_graph, siamfc_graph
from siamfast.models.alexnet import LAYERS, feature_size
from siamfast.models.mobile import EXEMPLAR, INSTANCE, MARGIN, REGION, SiamMobile
from siamfast.models.mobile_export import int8_convolutions
from siamfast.models.mobile_weights import DEFAULT_NAME as MOBILE_NAME
from siamfast.models.mobile_weights import load_mobile
from siamfast.models.onnx_export import DIGEST, Network, digest, half_graph, quantize_graph, to_onnx, write_onnx
from siamfast.models.siamfc_weights import DEFAULT_NAME as SIAMFC_NAME
from siamfast.models.siamfc_weights import load_model
from siamfast.models.weights import default_weights
from siamfast.tracking.anchor_free import AGREEING_OVERLAP
from siamfast.tracking.mobile_config import MobileTrackerConfig
from siamfast.tracking.mobile_targets import LOST_PLACES, LOST_STEP
from siamfast.tracking.siamfc import SiamFCTrackerConfig
from siamfast.version import __version__

FORMAT_VERSION = 1  # of tracker.json and of the graphs; the examples refuse another
PRECISIONS = ("float32", "float16", "int8")
CONSTANTS, EXAMPLE = "tracker.json", "example_tracker.py"  # names in the folder, beside the graphs
_VERSION = "format_version"  # key in tracker.json and in a graph's metadata
Feed = dict[str, NDArray[Any]]
Clips = Iterable[Iterable[tuple[NDArray[np.uint8], NDArray[np.float64]]]]


class Exportable(NamedTuple):
    """A tracker to export. int8: first and last convolution of the search network in 8 bits. half: whether large
    constants are stored in float16, as in the graphs of our own engine."""

    template: Network
    search: Network
    constants: dict[str, Any]
    int8: dict[str, Any]
    half: bool


def _mobile(weights: Path, batch: int) -> Exportable:
    model, config = load_mobile(weights), dataclasses.asdict(MobileTrackerConfig())
    del config["guide"]  # for experiments
    template, search = mobile_graph.networks(model, batch)
    constants = config | {
        "exemplar": EXEMPLAR,
        "stride": STRIDE,
        "cells": SiamMobile.cells(INSTANCE),
        "margin": MARGIN,
        "region": REGION,
        "regions": search.inputs["known"].shape[1],
        "sharpness": float(torch.exp(model.sharpness[-1].detach())),
        "agreeing_overlap": AGREEING_OVERLAP,
        "lost_step": LOST_STEP,
        "lost_places": LOST_PLACES,
    }
    return Exportable(template, search, constants, int8_convolutions(), half=True)


def _siamfc(weights: Path, batch: int) -> Exportable:
    model, config = load_model(weights), SiamFCTrackerConfig()
    template = Network(
        siamfc_graph.TemplateGraph(model), {"image": _images(batch, config.exemplar)}, siamfc_graph.TEMPLATE_OUTPUTS
    )
    with torch.no_grad():
        kernel = template.module(*template.inputs.values())
    image = _images(batch * config.scales, config.instance).unflatten(0, (batch, config.scales))
    search = Network(siamfc_graph.SearchGraph(model), {"image": image, "kernel": kernel}, siamfc_graph.SEARCH_OUTPUTS)
    cells = feature_size(config.instance) - feature_size(config.exemplar) + 1
    constants = dataclasses.asdict(config) | {"stride": STRIDE, "cells": cells, "bias": model.bias.item()}
    return Exportable(template, search, constants, {"first": 0, "last": len(LAYERS), "pool": True}, half=False)


class Model(NamedTuple):
    """How a model is exported: `make(weights, batch)`, the name of its packaged weights, its example's module."""

    make: Callable[[Path, int], Exportable]
    weights: str
    example: Any


MODELS = {
    "mobile": Model(_mobile, MOBILE_NAME, example_mobile),
    "siamfc": Model(_siamfc, SIAMFC_NAME, example_siamfc),
}


def _images(count: int, side: int) -> torch.Tensor:
    return torch.zeros(count, side, side, 3, dtype=torch.uint8)


def export_folder(
    out: Path,
    model: str,
    weights: Path | None = None,
    *,
    precisions: Sequence[str] = ("float32",),
    batch: int | None = 1,
    clips: Clips = (),
) -> list[Path]:
    """Write a tracker's template.onnx, its search network in each precision, tracker.json and example_tracker.py.

    Args:
        out: the folder; made if it is missing.
        model: "mobile" or "siamfc".
        weights: their file; None: the packaged ones.
        precisions: of PRECISIONS. The template's network, once per target, is always in float32.
        batch: targets per call; None: any number.
        clips: frames (H, W, 3) and boxes (4,) that calibrate 8 bits.

    Returns:
        The files, in the order in which they were written; tracker.json is the last, so a folder with it is complete.

    Raises:
        ValueError: weights of another network, one of the options, or a folder whose example was changed. OSError: a
            file is missing or cannot be written.
    """
    make, name, example = MODELS[model]
    there, ours = out / EXAMPLE, [Path(each.example.__file__).read_bytes() for each in MODELS.values()]
    if there.exists() and there.read_bytes() not in ours:
        raise ValueError(f"{there}: was changed, or is another version's, and would be overwritten; move it away first")
    weights = default_weights(name) if weights is None else weights
    tracker = make(weights, batch or 2)
    template, search = (to_onnx(network, dynamic=batch is None) for network in (tracker.template, tracker.search))
    about = facts(model, weights, batch)
    searches = {}
    for precision in precisions:
        if precision == "int8":
            with tempfile.TemporaryDirectory() as folder:
                if batch in (1, None):
                    _write(Path(folder), tracker, about, template, {"float32": search})
                else:  # the example follows one target
                    export_folder(Path(folder), model, weights)
                feeds = _recorded(example.Tracker(Path(folder)), clips, batch or 1)
            searches[precision] = quantize_graph(search, feeds, **tracker.int8)
        else:
            searches[precision] = half_graph(search) if precision == "float16" else search
    return _write(out, tracker, about, template, searches)


def facts(model: str, weights: Path, batch: int | None) -> dict[str, Any]:
    """The beginning of tracker.json."""
    return {
        _VERSION: FORMAT_VERSION,
        DIGEST: digest(weights),
        "siamfast": __version__,
        "model": model,
        "weights": weights.name,
        "batch": "dynamic" if batch is None else batch,
        "image": "(N, height, width, 3) uint8, RGB from 0 to 255; the graphs normalise it",
    }


def _write(
    out: Path, tracker: Exportable, about: dict[str, Any], template: Any, searches: dict[str, Any]
) -> list[Path]:
    """Write the files of `export_folder`; searches: the search network's graph per precision."""
    properties = {key: str(about[key]) for key in (_VERSION, DIGEST)}
    graphs = {name: {"template": "template.onnx", "search": _search_name(name)} for name in searches}
    out.mkdir(parents=True, exist_ok=True)
    named = {"template.onnx": template} | {_search_name(name): graph for name, graph in searches.items()}
    paths = [write_onnx(graph, out / name, properties, half=tracker.half) for name, graph in named.items()]
    constants = json.dumps(about | {"graphs": graphs} | tracker.constants, indent=1)
    example = Path(MODELS[about["model"]].example.__file__).read_text(encoding="utf-8")
    for name, text in ((EXAMPLE, example), (CONSTANTS, constants + "\n")):
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        paths.append(out / name)
    return paths


def _search_name(precision: str) -> str:
    return "search.onnx" if precision == "float32" else f"search.{precision}.onnx"


def _recorded(tracker: Any, clips: Clips, batch: int) -> list[Feed]:
    """The search network's inputs while an example's tracker follows the clips, repeated for a batch."""
    feeds: list[Feed] = []
    net = tracker.net

    class Recorder:
        def run(self, names: Any, feed: Feed) -> Any:
            feeds.append({name: np.repeat(value, batch, 0) for name, value in feed.items()})
            return net.run(names, feed)

    tracker.net = Recorder()
    for clip in clips:
        for number, (frame, box) in enumerate(clip):
            if number:
                tracker.update(frame)
            else:
                tracker.init(frame, box)
    return feeds
