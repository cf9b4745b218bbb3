"""The curves of a training run, as docs/weights.md shows them.

python -m benchmarks.losses RUN PNG
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

_SMOOTH = 25  # records of the training loss that are averaged, 20 steps each


def series(rows: list[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of one scalar."""
    pairs = [(row["step"], row[name]) for row in rows if name in row]
    return [step for step, _ in pairs], [value for _, value in pairs]


def plot(run: Path, file: Path) -> None:
    """Training and validation loss on the left; on the right the other validated figures, without hit rates."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = sorted({name for row in rows for name in row if name.startswith("validation/")})
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    steps, losses = series(rows, "train/loss")
    mean = np.convolve(losses, np.ones(_SMOOTH) / _SMOOTH, "valid")
    left.plot(steps[_SMOOTH // 2 :][: len(mean)], mean, label="training", color="C0")
    left.plot(*series(rows, "validation/loss"), "o-", label="validation, averaged weights", color="C1", markersize=3)
    for number, name in enumerate(n for n in names if not n.endswith(("loss", "rate"))):
        label = name.removeprefix("validation/").replace("_", " ")
        right.plot(*series(rows, name), ["o-", "s-", "^-"][number % 3], label=label, color=f"C{number}", markersize=3)
    left.set(xlabel="step", ylabel="loss")
    right.set(xlabel="step", ylabel="overlap of the best cell's box")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(file, dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    plot(Path(sys.argv[1]), Path(sys.argv[2]))
