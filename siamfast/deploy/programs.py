"""Export a tracker's networks as programs of torch.export: for PyTorch without siamfast, AOTInductor and ExecuTorch."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import torch

from siamfast.deploy.folder import CONSTANTS, MODELS, facts
from siamfast.io.files import replacing
from siamfast.models.onnx_export import Network
from siamfast.models.weights import default_weights
from siamfast.ops.xcorr import onnx


def export_programs(out: Path, model: str, weights: Path | None = None, *, batch: int | None = 1) -> list[Path]:
    """Write a tracker's template.pt2, search.pt2 and tracker.json. The programs are of PyTorch's own operations.

    Args:
        out: the folder; made if it is missing.
        model: "mobile" or "siamfc".
        weights: their file; None: the packaged ones.
        batch: targets per call; None: any number.

    Returns:
        The files; tracker.json is the last, so a folder with it is complete.

    Raises:
        ValueError: weights of another network, or a folder with another export's tracker.json. OSError: a file is
            missing or cannot be written.
    """
    about = out / CONSTANTS
    if about.exists() and '"programs"' not in about.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{about}: is of another export, or not ours, and would be overwritten; move it away first")
    weights = default_weights(MODELS[model].weights) if weights is None else weights
    tracker = MODELS[model].make(weights, batch or 2)
    out.mkdir(parents=True, exist_ok=True)
    paths, names = [], {}
    for name, network in (("template", tracker.template), ("search", tracker.search)):
        program = _program(network, dynamic=batch is None)
        names[name] = {"file": f"{name}.pt2", "inputs": list(network.inputs), "outputs": list(network.outputs)}
        data = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about weights that share memory, which it writes whole
            torch.export.save(program, data)
        with replacing(out / f"{name}.pt2") as temporary:
            temporary.write_bytes(data.getvalue())
        paths.append(out / f"{name}.pt2")
    with replacing(about) as temporary:
        content = facts(model, weights, batch) | {"programs": names} | tracker.constants
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return [*paths, about]


def _program(network: Network, *, dynamic: bool) -> torch.export.ExportedProgram:
    size = torch.export.Dim("batch", min=1)
    shapes = tuple({0: size} for _ in network.inputs) if dynamic else None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.export.export(network.module.eval(), tuple(network.inputs.values()), dynamic_shapes=shapes)
        # Else who loads the program would need siamfast: the correlation as products, slices and sums.
        return program.run_decompositions({torch.ops.siamfast.xcorr.default: onnx.full})
