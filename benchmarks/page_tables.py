"""The tables of single pages, each from a results file of its own; tables.py puts them in."""

from __future__ import annotations

from benchmarks.harness import Row


def spoken(us: float) -> str:
    """Microseconds to three figures, in the most readable unit."""
    value, unit = (us, "us") if us < 1000 else (us / 1000, "ms")
    return f"{value:.{max(0, 2 - len(str(int(value))) + 1)}f} {unit}"


def projects(rows: list[Row]) -> str:
    """docs/trackers.md's table: other projects' trackers before and after `accelerate`, the newest row of each."""
    newest = {(row["device"], row["project"]): row for row in rows if row["suite"] == "projects"}
    lines = ["| tracker | commit | before | accelerated | times faster | largest difference | CPU |"]
    lines.append("|---|---|---|---|---|---|---|")
    for (device, project), row in newest.items():
        before, after = (spoken(1e3 * row[name]) for name in ("before_ms", "after_ms"))
        # Of networks that give nearly the same for every picture, a small difference says nothing.
        tells = row.get("of_the_picture_px", 0.0) > 100 * row["largest_difference_px"]
        gap = f"{row['largest_difference_px']:.4f} px" if tells else "-"
        lines.append(
            f"| {project} | `{row['their_commit']}` | {before} | {after} | {row['ratio']} | {gap} | {device} |"
        )
    return "\n".join(lines)


def projects_also(rows: list[Row]) -> str:
    """docs/trackers.md's table: other projects' trackers with an option of `accelerate`, the newest row of each."""
    newest = {(row["device"], row["project"], row["also"]): row for row in rows if "also" in row}
    lines = ["| tracker | option | before | accelerated | with it | in all, times faster | CPU |", "|" + "---|" * 7]
    for (device, project, also), row in newest.items():
        times = " | ".join(spoken(1e3 * row[name]) for name in ("before_ms", "after_ms", "also_ms"))
        left = " (left out)" if also in row["left_out"] else ""
        lines.append(f"| {project} | {also}{left} | {times} | {row['before_ms'] / row['also_ms']:.2f} | {device} |")
    return "\n".join(lines)


def project_accuracy(rows: list[Row]) -> str:
    """docs/trackers.md's table: overlap with the truth by precision, the newest row of each."""
    newest = {(row["device"], row["precision"]): row for row in rows if row["suite"] == "project accuracy"}
    lines = ["| tracker | weights | precision | AO | by sequence | CPU |", "|" + "---|" * 6]
    for (device, precision), row in newest.items():
        parts = ", ".join(f"{name} {value:.2f}" for name, value in row["sequences"].items())
        lines.append(f"| {row['project']} | {row['weights']} | {precision} | {row['ao']:.3f} | {parts} | {device} |")
    return "\n".join(lines)


def project_training(rows: list[Row]) -> str:
    """docs/trackers.md's table: other projects' training steps before and after `patch`, the newest row of each."""
    newest = {(row["device"], row["project"]): row for row in rows if row["suite"] == "project training"}
    lines = ["| training | batch | before | patched | times faster | gradients differ by | CPU |", "|" + "---|" * 7]
    for (device, project), row in newest.items():
        times = f"{row['before_ms'] / 1e3:.2f} s | {row['after_ms'] / 1e3:.2f} s | {row['ratio']}"
        lines.append(f"| {project} | {row['batch']} | {times} | {row['gradient_difference']:.0e} | {device} |")
    return "\n".join(lines)


def annotation(rows: list[Row]) -> str:
    """docs/annotate.md's table: mean overlap by method and frames from key to key, the newest row of each."""
    newest = {(row["device"], row["every"]): row for row in rows}
    lines = ["| one key in | straight line | forwards only | mean of both | `annotate` | to review | CPU |"]
    lines.append("|" + "---|" * 7)
    for (device, every), row in newest.items():
        cells = [f"{value:.3f}".lstrip("0") for value in row["overlap"].values()]
        listed = f"{row['listed']['share']:.0%} of the frames, {row['listed']['share_of_bad']:.0%} of those below .5"
        lines.append(f"| {every} | {' | '.join(cells)} | {listed} | {device}, {row['date']} |")
    return "\n".join(lines)


def targets(rows: list[Row]) -> str:
    """docs/tracking.md's table: the cost of several targets, the newest row of each."""
    newest = {(row["device"], row["engine"], row["targets"]): row for row in rows}
    lines = [
        "| targets | engine | ms per frame | relative to one target | ms, a tracker for each | frames/s | MB | CPU |"
    ]
    lines.append("|" + "---|" * 8)
    for (device, engine, count), row in newest.items():
        times = f"{row['ms']:.1f} | {row['times_one']:.1f} | {row['ms_apart']:.1f} | {row['frames_per_second']:g}"
        lines.append(f"| {count} | {engine}, {row['precision']} | {times} | {row['mb']:g} | {device}, {row['date']} |")
    return "\n".join(lines)


def engines(rows: list[Row]) -> str:
    """docs/deploy.md's table: every engine and precision, the newest row of each."""
    newest = {(row["device"], row["model"], row["engine"], row["precision"]): row for row in rows}
    lines = ["| model | engine | precision | ms | frames/s | overlap | CPU |", "|" + "---|" * 7]
    for (device, *names), row in newest.items():
        cells = f"{row['milliseconds']:.2f} | {1e3 / row['milliseconds']:.1f} | {row['overlap']:.3f}"
        lines.append(f"| {' | '.join(names)} | {cells} | {device}, {row['date']} |")
    return "\n".join(lines)
