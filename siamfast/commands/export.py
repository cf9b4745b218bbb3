"""`siamfast export`: a tracker as a folder that needs no PyTorch; or graphs for our own mobile tracker."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from siamfast.data.synthetic import SyntheticVideo

_MODELS = ("mobile", "siamfc")
_PRECISIONS = ("float32", "float16", "int8")
_CLIPS, _FRAMES = 12, 8  # synthetic clips and frames per clip that calibrate the ranges of the 8-bit activations
_FIRST_SEED = 5000
_SUFFIX = ".safetensors"


EXAMPLE = "example:\n  siamfast export deployed/ --model mobile --precision float32,float16,int8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast export`."""
    parser.add_argument(
        "path",
        metavar="PATH",
        help="with --model: a folder for graphs, tracker.json and example_tracker.py (docs/deploy.md); without: "
        f"a mobile tracker's weights such as mine{_SUFFIX}, beside which its graphs are written (mine.template.onnx, "
        "mine.onnx, mine.int8.onnx), for siamfast itself",
    )
    parser.add_argument("--model", choices=_MODELS, help="export this tracker to a folder")
    parser.add_argument("--weights", metavar="FILE", help="with --model: its weights (default: the packaged ones)")
    parser.add_argument(
        "--format",
        choices=("onnx", "torch"),
        default="onnx",
        help="with --model: of the graphs; torch: programs of torch.export (.pt2), without an example (default: onnx)",
    )
    parser.add_argument(
        "--precision",
        metavar="LIST",
        help=f"with --model: of the search network, some of {','.join(_PRECISIONS)} (default: float32)",
    )
    parser.add_argument(
        "--batch", metavar="N", help="with --model: targets per call, a number or 'dynamic' (default: 1)"
    )
    parser.add_argument(
        "--photos", metavar="FOLDER", help="photographs to cut the textures of the synthetic calibration clips from"
    )
    parser.add_argument("--no-int8", action="store_true", help="without --model: only the float32 graph")


def run(arguments: argparse.Namespace) -> int:
    """Write the graphs.

    Raises:
        ValueError, OSError: weights of another network, a package that is missing, a file that cannot be written.
    """
    of_folder = {name: getattr(arguments, name) for name in ("weights", "precision", "batch")}
    if arguments.model is None:
        for name, value in of_folder.items():
            if value is not None:
                raise ValueError(f"--{name}: got it without --model, expected both")
        if Path(arguments.path).suffix != _SUFFIX:
            raise ValueError(f"PATH: got {arguments.path!r} without --model, expected a file of weights (*{_SUFFIX})")
    else:
        if arguments.no_int8:
            raise ValueError("--no-int8: got it with --model, expected --precision float32")
        if Path(arguments.path).suffix == _SUFFIX or Path(arguments.path).is_file():
            raise ValueError(f"PATH: got {arguments.path!r} with --model, expected a folder; weights go to --weights")
    weights = None if arguments.weights is None else Path(arguments.weights)
    precisions, batch = _precisions(arguments.precision or "float32"), _batch(arguments.batch or "1")
    if arguments.format == "torch":
        if arguments.model is None:
            raise ValueError("--format: got torch without --model, expected both")
        if precisions != ["float32"]:
            raise ValueError(f"--precision: got {arguments.precision} with --format torch, expected float32")
        from siamfast.deploy.programs import export_programs

        return _report(export_programs(Path(arguments.path), arguments.model, weights, batch=batch))
    from siamfast.models.onnx_export import check_packages

    check_packages()
    if arguments.model is None:
        written = _beside(Path(arguments.path), arguments.photos, int8=not arguments.no_int8)
    else:
        from siamfast.deploy.folder import export_folder

        clips = _clips(arguments.photos) if "int8" in precisions else ()
        written = export_folder(
            Path(arguments.path), arguments.model, weights, precisions=precisions, batch=batch, clips=clips
        )
    return _report(written)


def _report(written: list[Path]) -> int:
    for path in written:
        print(f"wrote {path}, {path.stat().st_size / 2**20:.1f} MB")
    return 0


def _precisions(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in _PRECISIONS:
            raise ValueError(f"--precision: got {name!r}, expected some of {','.join(_PRECISIONS)}")
    return list(dict.fromkeys(names))


def _batch(text: str) -> int | None:
    """The number; None for "dynamic"."""
    if text == "dynamic":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise ValueError(f"--batch: got {text!r}, expected 1 to 1024 or 'dynamic'")
    return int(text)


def _clips(photos: str | None) -> Iterator[SyntheticVideo]:
    """The synthetic clips that calibrate 8 bits."""
    from tqdm import tqdm

    from siamfast.data.photos import Photos
    from siamfast.data.synthetic import SyntheticVideo

    pictures = Photos(photos) if photos else None
    for seed in tqdm(range(_FIRST_SEED, _FIRST_SEED + _CLIPS), desc="calibrate", unit="clip"):
        yield SyntheticVideo(seed, length=_FRAMES + 1, photos=pictures)


def _beside(weights: Path, photos: str | None, *, int8: bool) -> list[Path]:
    """Write the graphs of the mobile tracker's engine beside its weights."""
    from siamfast.models.mobile_export import quantize, write_graph
    from siamfast.models.mobile_graph import networks
    from siamfast.models.mobile_onnx import TEMPLATE
    from siamfast.models.mobile_weights import load_mobile
    from siamfast.models.onnx_export import to_onnx

    template, graph = map(to_onnx, networks(load_mobile(weights), 1))
    written = [write_graph(template, weights, TEMPLATE), write_graph(graph, weights, ".onnx")]
    if int8:
        written.append(write_graph(quantize(graph, _calibration(weights, photos)), weights, ".int8.onnx"))
    return written


def _calibration(weights: Path, photos: str | None) -> list[dict[str, NDArray[Any]]]:
    """The inputs of the engine's graph while tracking synthetic clips."""
    from siamfast.models.mobile_onnx import OnnxEngine
    from siamfast.tracking.mobile import MobileTracker

    recorded_inputs: list[dict[str, NDArray[Any]]] = []
    tracker = MobileTracker(weights, engine="onnxruntime", precision="float32")
    assert isinstance(tracker.runner, OnnxEngine)
    tracker.runner.recorded = recorded_inputs
    for video in _clips(photos):
        for number, (frame, box) in enumerate(video):
            if number == 0:
                tracker.init(frame, box)
            else:
                tracker.update(frame)
    return recorded_inputs
