"""`siamfast export`: graphs for onnxruntime beside a mobile tracker's weights, in float32 and in 8 bits."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

_CLIPS, _FRAMES = 12, 8  # synthetic clips and frames per clip that calibrate the ranges of the 8-bit activations
_FIRST_SEED = 5000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "weights", metavar="WEIGHTS", help="mobile.safetensors; mobile.onnx and mobile.int8.onnx are written beside it"
    )
    parser.add_argument(
        "--photos", metavar="FOLDER", help="photographs to cut the textures of the synthetic calibration clips from"
    )
    parser.add_argument("--no-int8", action="store_true", help="only the float32 graph")


def run(arguments: argparse.Namespace) -> int:
    """Write the graphs.

    Raises:
        ValueError, OSError: weights of another network, a package that is missing, a file that cannot be written.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"export: needs {', '.join(missing)}: pip install {' '.join(missing)}")
    from siamfast.models.mobile_export import quantize, trace, write_graph
    from siamfast.models.mobile_weights import load_mobile

    weights = Path(arguments.weights)
    graph = trace(load_mobile(weights))
    written = [write_graph(graph, weights, ".onnx")]
    if not arguments.no_int8:
        written.append(write_graph(quantize(graph, _calibration(weights, arguments.photos)), weights, ".int8.onnx"))
    for path in written:
        print(f"wrote {path}, {path.stat().st_size / 2**20:.1f} MB")
    return 0


def _calibration(weights: Path, photos: str | None) -> list[dict[str, NDArray[Any]]]:
    """The graph's inputs while tracking synthetic clips."""
    from tqdm import tqdm

    from siamfast.data.photos import Photos
    from siamfast.data.synthetic import SyntheticVideo
    from siamfast.models.mobile_engine import OnnxEngine
    from siamfast.tracking.mobile import MobileTracker

    recorded_inputs: list[dict[str, NDArray[Any]]] = []
    pictures = Photos(photos) if photos else None
    tracker = MobileTracker(weights, engine="onnxruntime", precision="float32")
    assert isinstance(tracker.runner, OnnxEngine)
    tracker.runner.recorded = recorded_inputs
    for seed in tqdm(range(_FIRST_SEED, _FIRST_SEED + _CLIPS), desc="calibrate", unit="clip"):
        video = SyntheticVideo(seed, length=_FRAMES + 1, photos=pictures)
        for number, (frame, box) in enumerate(video):
            if number == 0:
                tracker.init(frame, box)
            else:
                tracker.update(frame)
    return recorded_inputs
