"""`python -m tests.install.matrix`: the versions that pyproject.toml promises, each installed and tested, as a table.

A row is a Python and some pins over constraints.txt, in an environment and a copy of the tree of its own. It runs the
tests that versions can break; with --all the whole suite. Standard library only. A row whose Python is not on PATH says
so in the table; it is not an error, since few machines have them all.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.install.pythons import ROOT, CommandFailed, python_on_path, run

# Import, ops beside the reference, kernels in Triton's interpreter and compiled for chips, readers, models, the command
# line. The slow tests of the kernels are left to --all.
TESTS = (
    "tests/test_cli.py",
    *(f"tests/ops/test_{name}.py" for name in ("xcorr", "balanced_logistic_loss", "correspondence_warp")),
    *(f"tests/ops/test_{name}.py" for name in ("augment", "crop_and_resize", "xcorr_onnx")),
    *(f"tests/kernels/test_{name}.py" for name in ("balanced_logistic_loss", "crop_and_resize", "launch")),
    *(f"tests/data/test_{name}.py" for name in ("readers", "images")),
    "tests/models/test_torch_files.py",
)
SHOWN = {"torch": "torch", "triton": "triton", "numpy": "numpy", "opencv-python-headless": "OpenCV"}


@dataclass(frozen=True)
class Row:
    """A combination of versions."""

    name: str
    python: str
    pins: tuple[str, ...] = ()  # instead of those in constraints.txt; NAME alone leaves the version to pip


def lowest() -> tuple[str, ...]:
    """Pins to the lower bounds of pyproject.toml's run-time dependencies: `numpy>=1.26` becomes `numpy==1.26.*`."""
    block = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [\n")[2].partition("\n]\n")[0]
    bounds = re.findall(r'"([\w-]+)>=([\d.]+)"', block)
    return tuple(f"{name}=={version if '.' in version else version + '.0'}.*" for name, version in bounds)


# The GPU machines' own set comes first. Triton's interpreter (3.6.0) fails with numpy 2.4: it takes a number from an
# array of one element, which numpy no longer allows.
ROWS = (
    Row("gpu-machines", "3.12", ("torch==2.11.0", "triton==3.6.0", "numpy==2.3.5")),
    Row("pinned", "3.11"),
    Row("triton-newest", "3.11", ("triton==3.9.0",)),
    Row("python-3.10", "3.10"),
    Row("python-3.12", "3.12"),
    Row("python-3.13", "3.13"),
    Row("lowest", "3.10", (*lowest(), "triton==3.4.0", "onnxruntime", "tensorboard")),
    Row(
        "numpy-1",
        "3.11",
        ("numpy==1.26.4", "opencv-python-headless==4.8.1.78", "triton==3.4.0", "matplotlib", "onnx", "onnxscript"),
    ),
)


@dataclass
class Outcome:
    """What became of a row: the text of its last column, and what is listed below the table."""

    row: Row
    versions: dict[str, str]
    counts: str
    failed: bool
    tests: tuple[str, ...] = ()
    seconds: float = 0


def constraints(row: Row) -> tuple[str, str | None]:
    """The text of a constraints file, and Triton's requirement, which is installed by itself after torch.

    Each CUDA build of torch asks for one Triton, so that pip would refuse another; and for a range of setuptools,
    which is not ours to pin at run time.
    """
    pinned = {re.split("[=<>]", pin)[0] for pin in row.pins} | {"triton", "setuptools"}
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#") and line.partition("==")[0] not in pinned
    ]
    lines += [pin for pin in row.pins if "==" in pin and not pin.startswith("triton")]
    default = re.search("^triton==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    triton = next((pin for pin in row.pins if pin.startswith("triton")), default and default.group())
    return "\n".join(lines) + "\n", triton


def install(row: Row, python: str, place: Path, log: Path) -> Path:
    """Copies the tree to `place`/tree and installs it in `place`/env; returns the environment's interpreter."""
    shutil.rmtree(place, ignore_errors=True)
    tree = place / "tree"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    pins, triton = constraints(row)
    (place / "constraints.txt").write_text(pins)
    run([python, "-m", "venv", place / "env"], log, cwd=place)
    interpreter = place / "env" / "bin" / "python"
    pip = [interpreter, "-m", "pip", "install", "-q", "-c", place / "constraints.txt"]
    torch = next(line for line in pins.splitlines() if line.startswith("torch=="))
    run([*pip, torch, "numpy"], log, cwd=place)
    run([*pip, "-e", ".[train,fast,test]"], log, cwd=tree)
    if triton is not None:
        run([interpreter, "-m", "pip", "install", "-q", "--no-deps", triton], log, cwd=place)
    return interpreter


def versions_of(interpreter: Path) -> dict[str, str]:
    """The versions of all packages in an environment, by lower-case name."""
    listed = subprocess.run(
        [interpreter, "-m", "pip", "list", "--format=json"], check=True, capture_output=True, text=True
    )
    return {package["name"].lower(): package["version"] for package in json.loads(listed.stdout)}


def try_row(row: Row, folder: Path, everything: bool, keep: bool) -> Outcome:
    """Install a row and run its tests."""
    python = python_on_path(row.python)
    if python is None:
        return Outcome(row, {}, f"not run here: no python{row.python} on PATH", failed=False)
    start = time.monotonic()
    place, log, report = folder / row.name, folder / f"{row.name}.log", folder / f"{row.name}.xml"
    log.write_text("")
    report.unlink(missing_ok=True)
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    versions: dict[str, str] = {}
    try:
        interpreter = install(row, python, place, log)
        versions = versions_of(interpreter)
        tests = () if everything else TESTS
        shared = ["-n", "auto", "--maxprocesses", "4", "--dist", "worksteal"]  # like `make test`
        command = [interpreter, "-m", "pytest", "-q", *shared, "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
        try:
            run(command, log, cwd=place / "tree", env=env)
        except CommandFailed:
            if not report.exists():
                raise
        outcome = read_report(row, versions, report)
    except CommandFailed as error:
        outcome = Outcome(row, versions, f"**{error}**", failed=True)
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
    outcome.seconds = time.monotonic() - start
    return outcome


def read_report(row: Row, versions: dict[str, str], report: Path) -> Outcome:
    """The outcome that pytest's JUnit report tells of."""
    failed, counts = [], {"passed": 0, "failed": 0, "skipped": 0}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {part.tag for part in case}
        kind = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        counts[kind] += 1
        if kind == "failed":
            failed.append(f"{case.get('classname', '')}::{case.get('name', '')}")
    text = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    none_ran = counts["passed"] == 0
    bad = bool(failed) or none_ran
    return Outcome(row, versions, f"**{text}**" if bad else text, failed=bad, tests=tuple(failed))


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as a Markdown table, and the failed tests below it."""
    lines = [f"| row | Python | {' | '.join(SHOWN.values())} | tests | min |", "|---" * (len(SHOWN) + 4) + "|"]
    for outcome in outcomes:
        versions = " | ".join(outcome.versions.get(name, "-") for name in SHOWN)
        minutes = f"{outcome.seconds / 60:.0f}" if outcome.seconds else "-"
        lines.append(f"| {outcome.row.name} | {outcome.row.python} | {versions} | {outcome.counts} | {minutes} |")
    for outcome in outcomes:
        lines += [f"\n{outcome.row.name}:", *(f"- {test}" for test in outcome.tests)] if outcome.tests else []
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the matrix; returns 1 if a row that could be run failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.install.matrix", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--only", metavar="NAMES", help=f"rows, by comma: {','.join(row.name for row in ROWS)}")
    parser.add_argument("--all", action="store_true", help="the whole test suite in each row")
    parser.add_argument("--keep", action="store_true", help="keep the environments, several GB each")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else [row.name for row in ROWS]
    unknown = sorted(set(names) - {row.name for row in ROWS})
    if unknown:
        parser.error(f"--only: got {', '.join(unknown)}, expected some of {', '.join(row.name for row in ROWS)}")
    folder = ROOT / "build" / "matrix"
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for row in ROWS:
        if row.name in names:
            print(f"{row.name}: Python {row.python}, {', '.join(row.pins) or 'constraints.txt'}", flush=True)
            outcomes.append(try_row(row, folder, arguments.all, arguments.keep))
            (folder / "table.md").write_text(table(outcomes))
    print("", table(outcomes), sep="\n")
    print(f"logs and this table: {folder.relative_to(ROOT)}/")
    return int(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
