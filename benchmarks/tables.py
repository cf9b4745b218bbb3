"""The tables of README.md and docs, and the plots, made of benchmarks/results/*.jsonl.

python -m benchmarks.tables           # writes what is stale (`make tables`)
python -m benchmarks.tables --check   # writes nothing; names what is stale and exits 1
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import gpu_tables, harness, page_tables, plots, scale
from benchmarks.harness import OURS, Row
from benchmarks.page_tables import spoken

ROOT = Path(__file__).parents[1]
RESULTS = "benchmarks/results"
DRAWN = {"speedups": plots.speedups, "roofline": plots.roofline, "scaling": plots.scaling}

# README's table: the common implementation beside ours. op, case, pass, peer.
HEADLINES = (
    ("xcorr full", "SiamFC, B=8", "forward", "grouped"),
    ("xcorr full", "SiamFC, B=8", "forward+backward", "grouped"),
    ("xcorr full", "siamfc-pytorch track, 3 scales", "forward", "grouped"),
    ("xcorr full", "siamrpn up-channel 10, B=8", "forward+backward", "grouped"),
    ("xcorr depthwise", "pysot resnet-50, B=28", "forward", "grouped"),
    ("xcorr depthwise", "pysot resnet-50, B=28", "forward+backward", "grouped"),
    ("xcorr pixelwise", "lighttrack, B=32", "forward", "matmul"),
    ("balanced_logistic_loss", "17x17, B=32", "forward+backward", "eager"),
    ("xcorr_balanced_loss", "SiamFC, B=32", "forward+backward", "grouped, eager"),
    ("correspondence_warp", "1x512x60x108, K=5", "forward", "materialised"),
    ("correspondence_warp", "1x512x60x108, K=5", "forward+backward", "materialised"),
    ("correspondence_warp", "1x512x60x108, K=5, radius 12", "forward", "rows"),
    ("correspondence_warp", "1x512x60x108, K=5, top 10", "forward+backward", "materialised top k"),
    ("crop_and_resize", "1080p, 3 x 255 px, border", "call", harness.FIRST),
    ("crop_and_resize", "1080p, 3 x 255 px, border", "call", "opencv"),
    ("augment", "32 x 255 px to 239, blur of a tenth, noise", "call", "eager"),
    ("augment", "32 x 255 px to 239, blur of a tenth, noise", "call", "opencv"),
    ("tracking", "1 target, 3 scales", "call", "siamfc-pytorch"),
    ("training", "SiamFC step, B=8", "call", "siamfc-pytorch"),
    ("pairs", "720p frames, 1 process", "call", "siamfc-pytorch"),
    ("curation", "VID, 720p, 3 targets, 1 process", "call", harness.FIRST),
)


# ---------------------------------------------------------------------------------------------------------------- rows
def latest(file: Path) -> list[Row]:
    """The newest row of each case, of a clean commit where there is one, in the order of first appearance."""
    rows: dict[tuple[str, str, str], Row] = {}
    for row in harness.read(file):
        if "contenders" in row:
            key = row["op"], row["case"], row["pass"]
            if key not in rows or clean(row) or not clean(rows[key]):
                rows[key] = row
    return list(rows.values())


def clean(row: Row) -> bool:
    """Whether the commit that the row names is what was measured."""
    return not str(row["commit"]).endswith("-dirty")


def devices(root: Path) -> dict[str, list[Row]]:
    """File stem -> rows, for all files with rows of this kind."""
    rows_by_device = {file.stem: latest(file) for file in sorted((root / RESULTS).glob("*.jsonl"))}
    return {stem: rows for stem, rows in rows_by_device.items() if rows}


def gpu_files(root: Path) -> list[Path]:
    return sorted((root / RESULTS / "gpu").glob("*.jsonl"))


def time(row: Row, name: str = OURS) -> float:
    return float(row["contenders"][name]["p50_us"])


# -------------------------------------------------------------------------------------------------------------- tables
def about(rows: list[Row]) -> str:
    """The origin of the rows, with all values of each field."""
    of = {
        name: ", ".join(sorted({str(row[name]) for row in rows})) for name in ("device", "threads", "torch", "commit")
    }
    return f"{of['device']}, {of['threads']} threads, torch {of['torch']}, commit {of['commit']}"


def headlines(rows_by_device: dict[str, list[Row]], rows_by_gpu: dict[str, list[Row]]) -> str:
    """README's table: our time and how many times faster it is, on every device, from rows of clean commits; on GPUs in
    a CUDA graph."""
    known = [{(row["op"], row["case"], row["pass"]): row for row in rows} for rows in rows_by_device.values()]
    on_gpus = [gpu_tables.newest(rows) for rows in rows_by_gpu.values()]
    names = [rows[0]["device"] for rows in rows_by_device.values()]
    names += [f"{rows[0]['device']}, CUDA graph" for rows in rows_by_gpu.values()]
    lines = [f"| op | case | pass | compared with | {' | '.join(f'{name} | times faster' for name in names)} |"]
    lines.append("|" + "---|" * (4 + 2 * len(names)))
    for *key, peer in HEADLINES:
        of_devices = [of_device.get(tuple(key)) for of_device in known]  # type: ignore[call-overload]
        if any(row is not None and peer in row["contenders"] for row in of_devices):
            cells = [
                f"{spoken(time(row))} | {time(row, peer) / time(row):.1f}"
                if row is not None and peer in row["contenders"]
                else " | "
                for row in of_devices
            ] + [gpu_tables.headline(rows, tuple(key), peer) for rows in on_gpus]  # type: ignore[arg-type]
            lines.append(f"| {' | '.join([*key, peer, *cells])} |")
    return "\n".join(lines)


def all_tables(rows: list[Row]) -> str:
    """One table per op: our time, the peers' relative to ours, the floor's share, the memory beyond inputs."""
    parts = []
    for op in dict.fromkeys(row["op"] for row in rows):
        op_rows = [row for row in rows if row["op"] == op]
        peers = [name for name in dict.fromkeys(n for row in op_rows for n in row["contenders"]) if name != OURS]
        head = ["case", "pass", "siamfast", *(f"{name}, x" for name in peers), "of the floor", "extra MB"]
        lines = [f"### {op}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for row in op_rows:
            times = [f"{time(row, name) / time(row):.2f}" if name in row["contenders"] else "" for name in peers]
            floor = f"{row['floor_fraction']:.0%}" if "floor_fraction" in row else ""
            memory = row["contenders"][OURS].get("peak_mb")
            cells = [
                row["case"],
                row["pass"],
                spoken(time(row)),
                *times,
                floor,
                "" if memory is None else f"{memory:.3g}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        stages = [key for key in op_rows[0] if key.endswith("_ms")]
        if stages:
            names = [key.removesuffix("_ms") for key in stages]
            lines += ["", f"| ms each | {' | '.join(names)} |", "|" + "---|" * (1 + len(names))]
            lines += [f"| {row['case']} | {' | '.join(str(row[key]) for key in stages)} |" for row in op_rows]
        if "launches" in op_rows[0]:
            lines += [
                "",
                "Launches, forward and backward: "
                + ", ".join(f"{n} {k}" for n, k in op_rows[0]["launches"].items())
                + ".",
            ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def times(root: Path) -> str:
    """README's table of whole tasks: how long each takes, from the rows of their own benchmarks."""
    results = root / RESULTS
    scaled = json.loads((results / "scale.json").read_text())
    singles = [
        row for row in harness.read(results / "targets.jsonl") if row["targets"] == 1 and row["engine"] != "torch"
    ]
    masks = [
        row
        for row in harness.read(results / "propagation.jsonl")
        if (row["features"], row["size"]) == ("packaged encoder", 480)
    ]
    trainings = [
        (name, next(row for row in latest(results / name) if row["case"] == "SiamFC step, B=32"))
        for name in ("amd-epyc.jsonl", "amd-epyc-avx2.jsonl")
    ]
    on_gpus = [(file, *gpu_tables.tracked(list(harness.read(file)))) for file in gpu_files(root)]
    lines = ["| task | result | on | rows |", "|---|---|---|---|"]
    for file, device, ms in on_gpus:
        link = f"[{file.name}]({RESULTS}/gpu/{file.name})"
        lines.append(f"| track one target (`MultiTracker`) | {ms:.1f} ms per frame | {device} | {link} |")
    by_scale = ((work.name, scale.duration(scale.estimate(work, scaled, 2))) for work in scale.WORKS)
    for task, taken, row, name in (
        *(
            (f"track one target ({one['precision']})", f"{one['ms']:.1f} ms per frame", one, "targets.jsonl")
            for one in singles
        ),
        *(
            ("carry masks, shorter side 480 px", f"{row['frames_per_second']:.1f} frames/s", row, "propagation.jsonl")
            for row in masks
        ),
        *(
            ("train SiamFC, 20,000 steps of 32 pairs", scale.duration(20_000 * time(row) / 1e6), row, name)
            for name, row in trainings
        ),
        *((task, taken, scaled, "scale.json") for task, taken in by_scale),
    ):
        lines.append(f"| {task} | {taken} | {row['device']}, two cores | [{name}]({RESULTS}/{name}) |")
    return "\n".join(lines)


def between(text: str, name: str, content: str) -> str:
    """The text with the part between the marks of `name` replaced."""
    begin, end = f"<!-- {name}: made by `make tables` -->", f"<!-- end of {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"expected one '{begin}' and one '{end}'")
    return re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: f"{begin}\n{content}\n{end}", text, flags=re.S)


def written(root: Path, rows: dict[str, list[Row]]) -> dict[Path, str]:
    """The up-to-date text of each page."""
    measured = {stem: [row for row in device_rows if clean(row)] for stem, device_rows in rows.items()}
    origins = [f"{about(device_rows)} ([rows]({RESULTS}/{stem}.jsonl))" for stem, device_rows in measured.items()]
    gpus = {file.stem: list(harness.read(file)) for file in gpu_files(root)}
    origins += [f"{gpu_tables.about(gpu)} ([rows]({RESULTS}/gpu/{stem}.jsonl))" for stem, gpu in gpus.items()]
    short, long = ["; ".join(origins) + ":\n\n" + headlines(measured, gpus)], []
    of_gpus = [
        f"## {gpu[0]['device']}\n\n{gpu_tables.about(gpu)}: {gpu_tables.checked(gpu)}\n\n{gpu_tables.timed(gpu)}"
        for gpu in gpus.values()
    ]
    for stem, device_rows in rows.items():
        pictures = [f"![{name} on {stem}](performance/{stem}-{name}.png)" for name in DRAWN]
        long.append("\n\n".join([f"## {stem}", about(device_rows) + ".", *pictures, all_tables(device_rows)]))

    def table(make: Callable[[list[Row]], str], name: str) -> list[str]:
        return [make(list(harness.read(root / RESULTS / f"{name}.jsonl")))]

    tables = (
        ("README.md", "speed", short),
        ("README.md", "times", [times(root)]),
        ("docs/performance.md", "results", long),
        ("docs/performance/gpu-measured.md", "measured", of_gpus),
        ("docs/trackers.md", "projects", table(page_tables.projects, "projects")),
        ("docs/trackers.md", "projects with options", table(page_tables.projects_also, "projects")),
        ("docs/trackers.md", "project accuracy", table(page_tables.project_accuracy, "projects")),
        ("docs/trackers.md", "project training", table(page_tables.project_training, "projects")),
        ("docs/scale.md", "scale", [scale.tables(json.loads((root / RESULTS / "scale.json").read_text()))]),
        ("docs/tracking.md", "targets", table(page_tables.targets, "targets")),
        ("docs/deploy.md", "engines", table(page_tables.engines, "engines")),
        ("docs/annotate.md", "annotation", table(page_tables.annotation, "annotation")),
    )
    pages: dict[Path, str] = {}
    for page, name, parts in tables:
        text = pages.get(root / page) or (root / page).read_text()
        pages[root / page] = between(text, name, "\n\n".join(parts))
    return pages


# --------------------------------------------------------------------------------------------------------------- plots
def digest(rows: list[Row]) -> str:
    """A digest of a plot's rows and of the code that draws them."""
    drawn = Path(plots.__file__).read_bytes()
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode() + drawn).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where something is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this file's)")
    options = parser.parse_args(arguments)
    rows, stale = devices(options.root), []
    for page, text in written(options.root, rows).items():
        if page.read_text() != text:
            stale.append(page)
            if not options.check:
                page.write_text(text)
    for stem, device_rows in rows.items():
        for name, draw in DRAWN.items():
            file = options.root / "docs" / "performance" / f"{stem}-{name}.png"
            if plots.digest_of(file) != digest(device_rows):
                stale.append(file)
                if not options.check:
                    draw(device_rows, file, digest(device_rows))
    for file in stale:
        print(f"{'stale' if options.check else 'written'}: {file.relative_to(options.root)}")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
