"""Other projects' training steps before and after `siamfast.compat.patch`: gradients and time of a step.

python -m benchmarks.project_training CLONES [--only NAME ...] [--batch 8] [--steps 3] [--results FILE]

CLONES and its packages as for `benchmarks.projects`. The networks and the batch are random; all parameters are trained,
by plain SGD. Steps are made before the patch, with it, after its undoing and with it again.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import harness
from benchmarks.projects import RESULTS, commit_of, found, in_own_processes, load_module, no_cuda
from siamfast.compat import patch


class Training(NamedTuple):
    """A training under one interface."""

    package: str
    network: torch.nn.Module
    step: Callable[[], float]  # a step of the optimizer; returns the loss


def _pysot(folder: Path, config: str, batch: int) -> Training:
    cfg = load_module(folder, "pysot.core.config").cfg
    cfg.merge_from_file(str(folder / config))
    cfg.CUDA = False
    network = importlib.import_module("pysot.models.model_builder").ModelBuilder().train()
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    template = torch.rand(batch, 3, cfg.TRAIN.EXEMPLAR_SIZE, cfg.TRAIN.EXEMPLAR_SIZE) * 255
    search = torch.rand(batch, 3, cfg.TRAIN.SEARCH_SIZE, cfg.TRAIN.SEARCH_SIZE) * 255
    with torch.no_grad():  # the configurations of these folders, for tracking, do not have the response's size
        network.template(template[:1])
        anchors, cells = cfg.ANCHOR.ANCHOR_NUM, network.track(search[:1])["cls"].shape[-1]
    data = {
        "template": template,
        "search": search,
        "label_cls": torch.randint(-1, 2, (batch, anchors, cells, cells)),
        "label_loc": torch.randn(batch, 4, anchors, cells, cells),
        "label_loc_weight": torch.rand(batch, anchors, cells, cells) / cells**2,
    }

    def step() -> float:
        loss = network(data)["total_loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return Training("pysot", network, step)


def _siamfc(folder: Path, batch: int) -> Training:
    tracker = load_module(folder, "siamfc").TrackerSiamFC()
    pairs = torch.rand(batch, 3, 127, 127) * 255, torch.rand(batch, 3, 239, 239) * 255
    return Training("siamfc", tracker.net, lambda: float(tracker.train_step(pairs)))


TRAININGS: dict[str, tuple[str, Callable[[Path, int], Training]]] = {
    "pysot AlexNet": ("pysot", lambda f, n: _pysot(f, "experiments/siamrpn_alex_dwxcorr/config.yaml", n)),
    "pysot ResNet-50": ("pysot", lambda f, n: _pysot(f, "experiments/siamrpn_r50_l234_dwxcorr/config.yaml", n)),
    "siamfc-pytorch": ("siamfc-pytorch", _siamfc),
}


def _first_step(training: Training, start: dict[str, Any]) -> tuple[float, list[torch.Tensor]]:
    """The loss and the gradients of a step from the weights `start`."""
    training.network.load_state_dict(start)
    loss = training.step()
    return loss, [p.grad.clone() for p in training.network.parameters() if p.grad is not None]


def _seconds(training: Training, steps: int) -> float:
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        training.step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(name: str, clones: Path, batch: int, steps: int) -> dict[str, Any]:
    folder, build = TRAININGS[name]
    torch.manual_seed(0)
    torch.set_num_threads(2)
    no_cuda()
    training = build(clones / folder, batch)
    start = {key: value.clone() for key, value in training.network.state_dict().items()}
    loss, gradients = _first_step(training, start)
    times: dict[str, list[float]] = {"before": [], "after": []}
    for turn in range(2):
        times["before"].append(_seconds(training, steps))
        with patch(training.package) as done:
            if turn == 0:
                new_loss, new_gradients = _first_step(training, start)
            times["after"].append(_seconds(training, steps))
    print("\n".join(done.swapped + done.left), flush=True)
    largest = max(float(g.abs().max()) for g in gradients)
    differences = [float((a - b).abs().max()) for a, b in zip(gradients, new_gradients, strict=True)]
    before, after = (statistics.mean(values) for values in times.values())
    return {
        "suite": "project training",
        **harness.about("cpu"),
        "project": name,
        "their_commit": commit_of(clones / folder),
        "batch": batch,
        "before_ms": round(1e3 * before, 1),
        "after_ms": round(1e3 * after, 1),
        "ratio": round(before / after, 2),
        "loss_difference": abs(loss - new_loss) / abs(loss),
        "gradient_difference": max(differences) / largest,
        "swapped": len(done.swapped),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("--only", action="append", choices=sorted(TRAININGS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    names = found(parser, arguments, {name: folder for name, (folder, _) in TRAININGS.items()})
    if len(names) == 1:
        row = measure(names[0], arguments.clones, arguments.batch, arguments.steps)
        print(f"{row['project']}: {row['before_ms']} -> {row['after_ms']} ms a step, {row['ratio']} x, gradients "
              f"differ by {row['gradient_difference']:.1e} of the largest")  # fmt: skip
        harness.append(row, arguments.results)
        return 0
    return in_own_processes("benchmarks.project_training", names, arguments, "batch", "steps")


if __name__ == "__main__":
    sys.exit(main())
