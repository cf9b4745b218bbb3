"""The tables of GPUs, of the rows that `python -m benchmarks.gpu` wrote; tables.py puts them in."""

from __future__ import annotations

from benchmarks.harness import OURS, Row
from benchmarks.page_tables import spoken

HEADINGS = {"tracking": "tracking with SiamFC"}


def graph_us(row: Row, name: str = OURS) -> float | None:
    """Microseconds of a call in a CUDA graph, where it could be captured."""
    return row["contenders"].get(name, {}).get("graph_us")


def newest(rows: list[Row]) -> dict[tuple[str, str, str], Row]:
    """The timed rows by op, case and pass."""
    return {(row["op"], row["case"], row["pass"]): row for row in rows if "contenders" in row}


def headline(rows: dict[tuple[str, str, str], Row], key: tuple[str, str, str], peer: str) -> str:
    """Two cells of README's table: our time in a CUDA graph, and how many times faster it is."""
    row = rows.get(key)
    ours, theirs = (None, None) if row is None else (graph_us(row), graph_us(row, peer))
    return " | " if ours is None or theirs is None else f"{spoken(ours)} | {theirs / ours:.1f}"


def about(rows: list[Row]) -> str:
    of = {name: ", ".join(sorted({str(row[name]) for row in rows if name in row})) for name in ("torch", "triton")}
    commits = ", ".join(sorted({row["commit"] for row in rows if row.get("commit")}))
    return f"{rows[0]['device']}, torch {of['torch']}, Triton {of['triton']}, commit {commits}"


def tracked(rows: list[Row]) -> tuple[str, float]:
    """The device, and milliseconds of a frame with one target."""
    row = next(row for row in reversed(rows) if row.get("case") == "MultiTracker, 1 targets" and "ms" in row)
    return row["device"], row["ms"]["graphs"]


def checked(rows: list[Row]) -> str:
    """What was checked in the newest run that did, in one paragraph of counts."""
    valued = [row for row in rows if row["section"] == "values" and "kernels" in row]
    if not valued:
        return "no values were checked."
    commit = valued[-1].get("commit")
    rows = [row for row in rows if row.get("commit") == commit]
    values = [row for row in rows if row["section"] in ("values", "smoke") and "kernels" in row]
    beyond = [row["task"] for row in values if not row["ok"]]
    races = [row for row in rows if row["section"] == "races" and "runs" in row]
    memcheck = next((row for row in rows if row["section"] == "sanitizer" and "errors" in row), None)
    parts = [
        f"at {commit} {len(values) - len(beyond)} of {len(values)} calls gave values and gradients within their bounds"
    ]
    if beyond:
        parts[0] += f" (not: {'; '.join(beyond)})"
    parts.append(f"{sum(bool(row['same_bits']) for row in values)} gave the same bits twice")
    if memcheck is not None:
        parts.append(f"memcheck found {', '.join(memcheck['errors'])} errors in {memcheck['checks']} calls")
    repeated, differing = (sum(row[name] for row in races) for name in ("runs", "differing"))
    parts.append(f"{differing} of {repeated:,} repeated calls gave other bits than the first")
    return "; ".join(parts) + "."


def timed(rows: list[Row]) -> str:
    """One table per op: in a CUDA graph and called by Python, our time and the peers' relative to it."""
    by_op: dict[str, list[Row]] = {}
    for row in newest(rows).values():
        by_op.setdefault(row["op"], []).append(row)
    tables = [_table(op, op_rows) for op, op_rows in by_op.items()]
    return "\n\n".join(filter(None, [*tables, several(rows)]))


def several(rows: list[Row]) -> str:
    """The table of several targets, of the newest row of each number; empty where there is none."""
    newest_of = {row["case"]: row for row in rows if row["section"] == "tracking" and "largest_difference_px" in row}
    lines = [
        "### tracking several targets, the default tracker", "",
        "| targets | a frame with CUDA graphs | without | boxes apart, first frame | within four |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for case, row in newest_of.items():
        count, ms = case.removeprefix("MultiTracker, ").split()[0], row["ms"]
        first = f"{row['first_difference_px']:.4f} px" if "first_difference_px" in row else ""
        most = f"{row['largest_difference_px']:.2f} px"
        lines.append(f"| {count} | {spoken(1e3 * ms['graphs'])} | {spoken(1e3 * ms['plain'])} | {first} | {most} |")
    return "\n".join(lines) if newest_of else ""


def _table(op: str, rows: list[Row]) -> str:
    names = [name for name in dict.fromkeys(n for row in rows for n in row["contenders"]) if name != OURS]
    captured = [name for name in names if any(graph_us(row, name) for row in rows)]
    graphs = any(graph_us(row) for row in rows)
    head = ["case", "pass", *(["in a graph", "of the floor", *(f"{n}, x" for n in captured)] if graphs else ())]
    head += ["called", *(f"{name}, x" for name in names)]
    lines = [f"### {HEADINGS.get(op, op)}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row["case"], row["pass"]]
        if graphs:
            ours = graph_us(row) or float("nan")
            times = (graph_us(row, name) for name in captured)
            cells += [spoken(ours), f"{row['floor_us'] / ours:.0%}"]
            cells += ["" if t is None else f"{t / ours:.2f}" for t in times]
        called = {name: figures["p50_us"] for name, figures in row["contenders"].items()}
        cells += [spoken(called[OURS]), *(f"{called[n] / called[OURS]:.2f}" if n in called else "" for n in names)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
