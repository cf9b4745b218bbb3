"""Other projects' trackers before and after `siamfast.compat.accelerate`: boxes and time of a frame.

python -m benchmarks.projects CLONES [--only NAME ...] [--frames 60] [--also int8] [--results FILE]

CLONES holds checkouts under the repositories' names (pysot, siamban, SiamCAR, siamfc-pytorch, SiamTrackers, TracKit,
LightTrack, SiamMask, video_analyst). Most need `pip install yacs colorama`; what they import for training alone may be
missing, and names that numpy, PyTorch and Python have dropped since are put back. The networks have random weights,
pysot's and NanoTrack's with small box heads, so that a box stays a box, and statistics of BatchNorm from four frames,
without which the frame's share of a deep network's output vanishes; calls of `.cuda()` do nothing. Each tracker runs in
a process of its own, over a clip of siamfast's renderer, four times: before, accelerated, undone and accelerated again;
with --also twice more, accelerated with that option.
"""

from __future__ import annotations

import argparse
import collections
import collections.abc
import functools
import gc
import importlib
import importlib.machinery
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import harness
from siamfast.compat import accelerate
from siamfast.data.synthetic import SyntheticVideo

_STEPS = 8
ALSO = {"int8": {"precision": "int8"}, "bfloat16": {"precision": "bfloat16"}, "torch.compile": {"compiled": True}}
RESULTS = Path(__file__).parent / "results" / "projects.jsonl"


class Subject(NamedTuple):
    """A tracker under one interface."""

    parts: list[Any]  # what is accelerated
    init: Callable[[Any, list[float]], Any]
    step: Callable[[Any], Any]  # frame -> a box and whatever else the tracker returns
    trial: bool = False  # whether the parts cannot be tried alone


def load_module(folder: Path, name: str) -> Any:
    """A module of a clone, which may need what later versions of its dependencies dropped."""
    sys.path.insert(0, str(folder))
    for gone in ("Iterable", "Mapping"):
        setattr(collections, gone, getattr(collections.abc, gone))
    setattr(np, "int", int)  # noqa: B010, as an attribute it is an error for the linter
    sys.modules["torch._six"] = mock.MagicMock(container_abcs=collections.abc, int_classes=int, string_classes=str)
    for missing in (
        "torchvision.models.resnet",
        "torchvision.ops",
        "pycocotools.coco",
        "pycocotools.mask",
        "loguru",
        "pandas",
    ):
        try:
            importlib.import_module(missing)
        except (ImportError, RuntimeError):  # not installed, or made for another PyTorch
            parts = missing.split(".")
            for package in (".".join(parts[: i + 1]) for i in range(len(parts))):
                sys.modules[package] = mock.MagicMock(__spec__=importlib.machinery.ModuleSpec(package, None))
    return importlib.import_module(name)


def _calm(network: torch.nn.Module, *names: str) -> torch.nn.Module:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if any(part in name for part in names):
                parameter.mul_(0.1)
    return network.eval()


def _as_pysot(folder: Path, package: str, config: str) -> Subject:
    cfg = load_module(folder, f"{package}.core.config").cfg
    cfg.merge_from_file(str(folder / config))
    cfg.CUDA = False
    network = importlib.import_module(f"{package}.models.model_builder").ModelBuilder()
    network = _calm(network, *{"pysot": ("loc.head.3",), "nanotrack": ("bbox_pred",)}.get(package, ()))
    tracker = importlib.import_module(f"{package}.tracker.tracker_builder").build_tracker(network.eval())
    return Subject([tracker], tracker.init, tracker.track)


def _network_alone(network: Any, output: Callable[[Any], torch.Tensor]) -> Subject:
    """For trackers that cannot run here: fixed crops, and an output of the network, scaled to 1, in place of boxes."""

    def crop(frame: Any, side: int) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(frame[:side, :side])).permute(2, 0, 1)[None].float()

    def step(frame: Any) -> Any:
        values = output(network.track(crop(frame, 255))).detach().numpy().ravel()
        return values / np.abs(values).max()

    return Subject([network.eval()], lambda frame, box: network.template(crop(frame, 127)), step)


def _siamcar(folder: Path) -> Subject:
    """Their tracker calls `ndarray.ptp`, which numpy 2 does not have."""
    cfg = load_module(folder, "pysot.core.config").cfg
    cfg.merge_from_file(str(folder / "experiments/siamcar_r50/config.yaml"))
    cfg.CUDA = False
    network = importlib.import_module("pysot.models.model_builder").ModelBuilder()
    return _network_alone(network, lambda outputs: outputs["loc"])


def _siammask(folder: Path) -> Subject:
    """Their tracker is part of a program that reads its arguments when it is imported."""
    sys.path.insert(0, str(folder))
    custom = load_module(folder / "experiments" / "siammask_base", "custom")
    anchors = json.loads((folder / "experiments/siammask_base/config.json").read_text())["anchors"]
    return _network_alone(custom.Custom(anchors=anchors), lambda outputs: outputs[1])


def _lighttrack(folder: Path) -> Subject:
    models = load_module(folder, "lib.models.models")
    name = "back_04502514044521042540+cls_211000022+reg_100000111_ops_32"
    network = models.LightTrackM_Subnet(path_name=name, stride=16).eval()
    tracker = importlib.import_module("lib.tracker.lighttrack").Lighttrack(_Info(dataset="VOT2019"))
    return _state_machine(tracker, network)


def _siamfc(folder: Path) -> Subject:
    tracker = load_module(folder, "siamfc").TrackerSiamFC()
    return Subject([tracker], tracker.init, tracker.update)


def _state_machine(tracker: Any, network: Any) -> Subject:
    """TracKit's and LightTrack's trackers keep what they know in a dictionary."""
    state: dict[str, Any] = {}

    def init(frame: Any, box: list[float]) -> None:
        x, y, w, h = box
        state.update(tracker.init(frame, np.array([x + w / 2, y + h / 2]), np.array([w, h]), network))

    def step(frame: Any) -> Any:
        state.update(tracker.track(state, frame))
        return np.concatenate([state["target_pos"], state["target_sz"]])

    return Subject([tracker, network], init, step, trial=True)


def _ocean(folder: Path) -> Subject:
    models = load_module(folder / "lib", "models.models")
    network = models.Ocean(align=False, online=False).eval()
    tracker = importlib.import_module("tracker.ocean").Ocean(_Info(dataset="VOT2018"))
    return _state_machine(tracker, network)


class _Info:
    align = online = TRT = epoch_test = False
    stride = 16

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset


def _video_analyst(folder: Path) -> Subject:
    config = load_module(folder, "videoanalyst.config.config").cfg
    config.merge_from_file(str(folder / "experiments/siamfcpp/test/got10k/siamfcpp_alexnet-got.yaml"))
    task, cfg = importlib.import_module("videoanalyst.config.config").specify_task(config["test"])
    cfg.model.task_model.SiamTrack.pretrain_model_path = ""
    network = importlib.import_module("videoanalyst.model.builder").build(task, cfg.model).eval()
    tracker = importlib.import_module("videoanalyst.pipeline.builder").build(task, cfg.pipeline, network)
    return Subject([tracker], tracker.init, tracker.update)


SUBJECTS: dict[str, tuple[str, Callable[[Path], Subject]]] = {
    "NanoTrack v3": (
        "SiamTrackers",
        lambda f: _as_pysot(f / "NanoTrack", "nanotrack", "models/config/configv3.yaml"),
    ),
    "pysot AlexNet": ("pysot", lambda f: _as_pysot(f, "pysot", "experiments/siamrpn_alex_dwxcorr/config.yaml")),
    "pysot ResNet-50": ("pysot", lambda f: _as_pysot(f, "pysot", "experiments/siamrpn_r50_l234_dwxcorr/config.yaml")),
    "pysot MobileNetV2": (
        "pysot",
        lambda f: _as_pysot(f, "pysot", "experiments/siamrpn_mobilev2_l234_dwxcorr/config.yaml"),
    ),
    "SiamBAN": ("siamban", lambda f: _as_pysot(f, "siamban", "experiments/siamban_r50_l234/config.yaml")),
    "SiamCAR": ("SiamCAR", _siamcar),
    "siamfc-pytorch": ("siamfc-pytorch", _siamfc),
    "SiamMask": ("SiamMask", _siammask),
    "Ocean": ("TracKit", _ocean),
    "LightTrack": ("LightTrack", _lighttrack),
    "SiamFC++ AlexNet": ("video_analyst", _video_analyst),
}


def clip(frames: int) -> tuple[list[NDArray[np.uint8]], list[float]]:
    """BGR frames of 480 x 640 pixels, and the target's box in the first."""
    video = SyntheticVideo(3, length=frames, size=(480, 640))
    images = [np.ascontiguousarray(video.frame(t)[..., ::-1]) for t in range(frames)]
    return images, [float(v) for v in video.box(0)]


def _track(subject: Subject, frames: list[Any], box: list[float]) -> tuple[NDArray[np.float64], float]:
    """((frames - 1, 4) boxes, milliseconds of a frame, median)."""
    subject.init(frames[0], list(box))
    boxes, times = [], []
    for frame in frames[1:]:
        start = time.perf_counter()
        result = subject.step(frame)
        times.append(time.perf_counter() - start)
        result = result["bbox"] if isinstance(result, dict) else result
        boxes.append(np.array(result, dtype=np.float64))
    return np.array(boxes), 1e3 * statistics.median(times)


def _single_steps(subject: Subject, frames: list[Any], box: list[float]) -> NDArray[np.float64]:
    """Results one frame after the first, for each of some frames: a network of random weights follows nothing, so over
    many frames a rounding would decide where it goes."""
    return np.concatenate([_track(subject, [frames[0], frame], box)[0] for frame in frames[1:_STEPS]])


def _gap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.abs(np.nan_to_num(a) - np.nan_to_num(b)).max())  # NaN, of a box without area, only beside NaN


def calibrate(subject: Subject, frames: list[Any], box: list[float]) -> None:
    """Take BatchNorm's statistics from frames."""
    norms = [thing for thing in gc.get_objects() if isinstance(thing, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all
        norm.training = True
        norm.train = functools.partial(lambda norm, mode=True: norm, norm)  # type: ignore[method-assign]
    _track(subject, frames, box)
    for norm in norms:
        del norm.train
        norm.eval()


def no_cuda() -> None:
    """Make calls of `.cuda()` do nothing, which these projects do not ask about."""
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]


def commit_of(clone: Path) -> str | None:
    """The short hash of a checkout's commit; None where there is none."""
    git = subprocess.run(["git", "-C", clone, "rev-parse", "--short", "HEAD"], capture_output=True, check=False)
    return git.stdout.decode().strip() or None


def measure(name: str, clones: Path, frames: int, also: str | None) -> dict[str, Any]:
    folder, build = SUBJECTS[name]
    torch.manual_seed(0)
    torch.set_num_threads(2)
    no_cuda()
    subject = build(clones / folder)
    images, box = clip(frames)
    calibrate(subject, images[:4], box)
    grey = [np.full_like(image, 128) for image in images[:_STEPS]]
    exact = _single_steps(subject, images, box)
    seen = _gap(exact, _single_steps(subject, grey, box))

    def trial() -> Any:
        return _track(subject, images[:3], box)[0]

    options: dict[str, Any] = {"trial_run": trial} if subject.trial else {}
    before, first = _track(subject, images, box)
    done = accelerate(*subject.parts, **options)
    gap = _gap(exact, _single_steps(subject, images, box))
    _, second = _track(subject, images, box)
    done.undo()
    undone, third = _track(subject, images, box)
    done = accelerate(*subject.parts, **options)
    gap = max(gap, _gap(exact, _single_steps(subject, images, box)))
    _, fourth = _track(subject, images, box)
    with_also: dict[str, Any] = {}
    if also is not None:
        done.undo()
        start = time.perf_counter()
        done = accelerate(*subject.parts, **options, **ALSO[also])
        with_also = {
            "also": also,
            "also_takes_s": round(time.perf_counter() - start, 1),
            "also_ms": round(statistics.mean(_track(subject, images, box)[1] for _ in range(2)), 2),
            "also_difference_px": _gap(exact, _single_steps(subject, images, box)),
        }
    print(done.report(), flush=True)
    if not np.array_equal(before, undone, equal_nan=True):
        raise ValueError(f"{name}: undo() did not restore the boxes")
    return {
        "suite": "projects",
        **harness.about("cpu"),
        "project": name,
        "their_commit": commit_of(clones / folder),
        "frames": frames,
        "before_ms": round(statistics.mean((first, third)), 2),
        "after_ms": round(statistics.mean((second, fourth)), 2),
        "ratio": round((first + third) / (second + fourth), 2),
        "largest_difference_px": gap,
        "of_the_picture_px": seen,  # what grey frames change: how much a difference can tell
        "steps": {s.name: round(1e3 * s.seconds, 2) for s in done.steps},
        "left_out": [s.name for s in done.steps if s.difference is None],
        **with_also,
    }


def found(parser: argparse.ArgumentParser, arguments: argparse.Namespace, folders: dict[str, str]) -> list[str]:
    """The names of --only, or those whose folder is among the clones; without any the parser's error."""
    names = arguments.only or [name for name, folder in folders.items() if (arguments.clones / folder).is_dir()]
    if not names:
        parser.error(f"{arguments.clones}: holds none of {', '.join(dict.fromkeys(folders.values()))}")
    return list(names)


def in_own_processes(module: str, names: list[str], arguments: argparse.Namespace, *options: str) -> int:
    """Run a benchmark once for each name, because the packages of several projects have common names."""
    command = [sys.executable, "-m", module, str(arguments.clones)]
    for option in (*options, "results"):
        command += [f"--{option}", str(getattr(arguments, option))]
    return max(subprocess.run([*command, "--only", name], check=False).returncode for name in names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("--only", action="append", choices=sorted(SUBJECTS))
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--also", choices=ALSO, help="an option of accelerate; timed besides")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    names = found(parser, arguments, {name: folder for name, (folder, _) in SUBJECTS.items()})
    if len(names) == 1:
        row = measure(names[0], arguments.clones, arguments.frames, arguments.also)
        print(f"{row['project']}: {row['before_ms']} -> {row['after_ms']} ms, {row['ratio']} x, "
              f"boxes differ by {row['largest_difference_px']:.4f} px")  # fmt: skip
        harness.append(row, arguments.results)
        return 0
    return in_own_processes("benchmarks.projects", names, arguments, *(["also"] if arguments.also else []), "frames")


if __name__ == "__main__":
    sys.exit(main())
