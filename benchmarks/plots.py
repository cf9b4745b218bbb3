"""The plots of docs/performance.md: speed-ups as bars, a roofline, time by batch; each PNG carries its rows' digest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.harness import OURS, Row

KEY = "Comment"  # the PNG text chunk of the digest
# Okabe and Ito's colours, which people who confuse red and green tell apart.
COLORS = {"forward": "#e69f00", "forward+backward": "#0072b2", "call": "#009e73"}


def digest_of(file: Path) -> str | None:
    """The digest of the rows that a plot was made from, or None without a plot."""
    from PIL import Image

    if not file.exists():
        return None
    with Image.open(file) as image:
        return image.info.get(KEY)


def _save(figure: Any, file: Path, digest: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90, metadata={KEY: digest, "Software": None}, bbox_inches="tight")
    pyplot.close(figure)


def _time(row: Row, name: str = OURS) -> float:
    return float(row["contenders"][name]["p50_us"])


def _first_peer(row: Row) -> str:
    return next(name for name in row["contenders"] if not name.startswith(OURS))


def speedups(rows: list[Row], file: Path, digest: str) -> None:
    """One bar per case, one panel per op: the time of the common implementation relative to ours."""
    ops = list(dict.fromkeys(row["op"] for row in rows))
    rows_by_op = {
        op: [row for row in rows if row["op"] == op and any(n[:8] != OURS for n in row["contenders"])] for op in ops
    }
    rows_by_op = {op: op_rows for op, op_rows in rows_by_op.items() if op_rows}
    figure, panels = pyplot.subplots(
        len(rows_by_op),
        1,
        figsize=(9, 0.24 * sum(map(len, rows_by_op.values())) + 0.7 * len(rows_by_op)),
        layout="constrained",
        sharex=True,
        squeeze=False,
        height_ratios=[len(op_rows) + 1 for op_rows in rows_by_op.values()],
    )
    for axes, (op, op_rows) in zip(panels[:, 0], rows_by_op.items(), strict=True):
        ratios = [_time(row, _first_peer(row)) / _time(row) for row in op_rows]
        places = np.arange(len(op_rows))[::-1]
        # Bars start at 1: those of cases slower than their peer extend to the left.
        axes.barh(places, np.array(ratios) - 1, left=1, color=[COLORS[row["pass"]] for row in op_rows])
        for place, ratio in zip(places, ratios, strict=True):
            axes.annotate(
                f" {ratio:.1f} ", (ratio, place), va="center", ha="left" if ratio >= 1 else "right", fontsize=7
            )
        axes.set_yticks(places, [f"{row['case']}, {row['pass']}" for row in op_rows], fontsize=7)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_title(f"{op}, beside {', '.join(dict.fromkeys(map(_first_peer, op_rows)))}", fontsize=9, loc="left")
    low, high = panels[0, 0].get_xlim()
    panels[0, 0].set_xlim(low / 1.3, high * 1.5)
    panels[-1, 0].set_xlabel("times faster (log scale)")
    panels[-1, 0].xaxis.set_major_formatter("{x:g}")
    passes = [name for name in COLORS if any(row["pass"] == name for row in rows)]
    figure.legend(
        [pyplot.Rectangle((0, 0), 1, 1, color=COLORS[name]) for name in passes],
        passes, loc="outside upper center", ncols=len(passes), frameon=False, fontsize=8,
    )  # fmt: skip
    _save(figure, file, digest)


def roofline(rows: list[Row], file: Path, digest: str) -> None:
    """FLOP per second over FLOP per byte, under the roofs that a copy and a matrix product reached in the same run."""
    measured = [row for row in rows if row.get("speeds") and row["flop"] and row["bytes"]]
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for number, op in enumerate(dict.fromkeys(row["op"] for row in measured)):
        op_rows = [row for row in measured if row["op"] == op]
        axes.scatter(
            [row["flop"] / row["bytes"] for row in op_rows],
            [row["flop"] / _time(row) * 1e6 for row in op_rows],
            [30 if "backward" in row["pass"] else 12 for row in op_rows],
            label=op,
            color=f"C{number}",
            alpha=0.8,
        )
    speed = {name: float(np.median([row["speeds"][name] for row in measured])) for name in ("bytes", "flop")}
    intensity = np.geomspace(0.1, 1000, 100)
    axes.plot(intensity, np.minimum(intensity * speed["bytes"], speed["flop"]), color="black", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="FLOP of the definition / byte that has to move", ylabel="FLOP/s")
    axes.set_title(
        f"siamfast under a copy of {speed['bytes'] / 1e9:.0f} GB/s and a matrix product of {speed['flop'] / 1e9:.0f} "
        "GFLOP/s (large dots: with backward)",
        fontsize=9,
    )
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    _save(figure, file, digest)


def scaling(rows: list[Row], file: Path, digest: str) -> None:
    """Time by batch, or by targets, of all contenders, for cases that were measured at three sizes or more."""
    groups: dict[tuple[str, str, str], dict[int, Row]] = {}
    for row in rows:
        match = re.fullmatch(r"(.*), B=(\d+)|(\d+) targets?(, .*)", row["case"])
        if match:
            stem, size = (match[1], match[2]) if match[1] else (match[4][2:], match[3])
            groups.setdefault((row["op"], stem, row["pass"]), {})[int(size)] = row
    groups = {key: sizes for key, sizes in groups.items() if len(sizes) >= 3}
    columns = 3
    lines = -(-len(groups) // columns)
    figure, panels = pyplot.subplots(lines, columns, figsize=(11, 2.9 * lines), layout="constrained", squeeze=False)
    for axes, (key, sizes) in zip(panels.flat, groups.items(), strict=False):
        _by_size(axes, dict(sorted(sizes.items())))
        axes.set_title(", ".join(key), fontsize=8)
    for axes in panels.flat[len(groups) :]:
        axes.set_axis_off()
    _save(figure, file, digest)


def _by_size(axes: Axes, sizes: dict[int, Row]) -> None:
    names = dict.fromkeys(name for row in sizes.values() for name in row["contenders"])
    for name in names:
        some = {size: _time(row, name) / 1e3 for size, row in sizes.items() if name in row["contenders"]}
        axes.plot(
            list(some),
            list(some.values()),
            marker=".",
            label=name,
            linewidth=2 if name == OURS else 1,
            color="black" if name == OURS else None,
        )
    axes.set(xscale="log", yscale="log", ylabel="ms")
    axes.set_xticks(list(sizes), list(map(str, sizes)))
    axes.minorticks_off()
    axes.legend(fontsize=6)
    axes.grid(alpha=0.3)
