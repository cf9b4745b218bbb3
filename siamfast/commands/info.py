"""`siamfast info`: versions, devices, the backend of each op on each device, and what could be repaired."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform

import torch

from siamfast.machine import cpu_name
from siamfast.ops import OPS, dispatch
from siamfast.version import __version__

_PACKAGES = ("numpy", "av", "safetensors")
_OPTIONAL = {
    "onnxruntime": "the default tracker on CPUs; siamfast[fast]",
    "triton": "the kernels for GPUs; a CUDA build of torch brings it",
    "tensorboard": "scalars and response maps of training; siamfast[train]",
    "onnx": "siamfast export; siamfast[export]",
    "onnxscript": "siamfast export; siamfast[export]",
    "distributed": "--engine dask; siamfast[dask]",
    "vot-trax": "siamfast vot; siamfast[vot]",
}
# They all install the module cv2, and each installation overwrites parts of the one before.
_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")


# Ops that run others' kernels: op -> the op whose backends serve it. xcorr_pixelwise is one product, which PyTorch
# does best.
_SERVED_LIKE = {"xcorr_depthwise": "xcorr", "xcorr_pixelwise": "xcorr", "xcorr_balanced_loss": "xcorr"}
_LEFT_TO_TORCH = ("xcorr_pixelwise",)

EXAMPLE = "example:\n  siamfast info"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`siamfast info` has no options."""


def run(arguments: argparse.Namespace) -> int:
    print("\n".join([*versions(), "", *devices(), "", tracker(), "", *backends()]))
    return 0


def versions() -> list[str]:
    """One line per package, which says so when an optional one is not installed."""
    rows = [("siamfast", __version__), ("python", platform.python_version()), ("torch", torch.__version__)]
    rows += [(name, _version(name) or "not installed") for name in _PACKAGES]
    rows += [(name, _version(name) or f"not installed: for {use}") for name, use in _OPTIONAL.items()]
    installed = [(name, version) for name in _OPENCV if (version := _version(name)) is not None]
    lines = [f"{name:<24}{version}" for name, version in rows + installed]
    if len(installed) > 1:
        names = " ".join(name for name, _ in installed)
        lines.append(
            f"OpenCV is installed {len(installed)} times, and only the last is complete: `pip uninstall -y {names}`, "
            "then install the one you want"
        )
    return lines


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def devices() -> list[str]:
    """The CPU with its threads and the SIMD path in use, and every CUDA device."""
    extension, cause = dispatch.extension()
    simd = f"SIMD path {extension.cpu_path()}" if extension is not None else cause
    rows = [f"cpu: {cpu_name()}, {torch.get_num_threads()} of {os.cpu_count()} threads, {simd}"]
    if not torch.cuda.is_available():
        built = torch.version.cuda or "none"
        return [*rows, f"cuda: no device (this PyTorch was built for CUDA: {built})"]
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        rows.append(
            f"cuda:{index}: {card.name}, sm_{card.major}{card.minor}, {card.multi_processor_count} SMs, "
            f"{card.total_memory / 2**30:.0f} GiB"
        )
        too_old = dispatch.gpu_too_old(index)
        if too_old is not None:
            rows.append(f"cuda:{index}: served by the torch backend: {too_old}")
    return rows


def tracker() -> str:
    """The engine that runs the default tracker on the CPU, and why no faster one does."""
    from siamfast.instructions import int8_missing
    from siamfast.models.inference import choose_precision
    from siamfast.models.mobile import INSTANCE
    from siamfast.models.mobile_onnx import graph_path, onnxruntime_missing
    from siamfast.models.mobile_weights import DEFAULT_NAME
    from siamfast.models.weights import default_weights

    weights = default_weights(DEFAULT_NAME)
    missing = onnxruntime_missing(weights, INSTANCE)
    if missing is not None:
        precision = choose_precision("auto", torch.device("cpu"), int8=False)
        return f"default tracker: torch, {precision} (onnxruntime would be faster, but {missing})"
    graph = graph_path(weights)
    slower = int8_missing()
    return f"default tracker: onnxruntime, {graph.name if graph else ''}" + (f" ({slower})" if slower else "")


def backends() -> list[str]:
    """The backend of a float32 call for each op and device; then what could be repaired on this machine: missing C++
    kernels on the CPU, missing Triton kernels on a GPU."""
    rows = [f"{'op':<24}{'device':<8}{'serves':<12}also"]
    reasons: dict[str, list[str]] = {}  # reason -> the ops without that backend
    fastest = {"cpu": "cpp"} | ({"cuda": "triton"} if torch.cuda.is_available() else {})
    for name in (*OPS, *_SERVED_LIKE):
        module = importlib.import_module(f"siamfast.ops.{_SERVED_LIKE.get(name, name)}")
        for device in ("cpu", "cuda"):
            served = [
                backend
                for backend in dispatch.AUTO_ORDER
                if module.can_run(backend, device, torch.float32) and (name not in _LEFT_TO_TORCH or backend == "torch")
            ]
            shown = device if device in fastest else f"({device})"  # in brackets: what a device would get
            rows.append(f"{name:<24}{shown:<8}{served[0]:<12}{', '.join([*served[1:], 'reference'])}")
        for device, backend in fastest.items():
            if name in _SERVED_LIKE:
                continue
            try:
                module.can_run(backend, device, torch.float32, raise_error=True)
            except ValueError as error:
                if dispatch.NO_KERNEL in str(error):  # nothing that this machine lacks
                    continue
                reasons.setdefault(f"{device}: {error}", []).append(name)
    mendable = [f"{reason} ({', '.join(names)})" for reason, names in reasons.items()]
    forced = dispatch.forced()
    if forced is not None:
        mendable.append(f"SIAMFAST_BACKEND={forced} is set: every call runs in it, or raises an error")
    return [*rows, *([""] if mendable else []), *mendable]
