"""The sections that run our kernels under NVIDIA's tools: compute-sanitizer's memcheck, and Nsight Compute.

python -m benchmarks.gpu.tools DEVICE CASE   # a case's own call, three times, for Nsight Compute
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.schedule import Row
from benchmarks.gpu.tasks import Setting, Task

MEMCHECK, NCU = "memcheck.txt", "ncu.txt"  # reports in --out, kept whole
MOST = 100.0  # seconds of a tool; it is ended with its section
LAUNCHES = 6  # our launches that Nsight Compute measures per case
METRICS = (
    "Duration",
    "DRAM Throughput",
    "Memory Throughput",
    "L2 Hit Rate",
    "Compute (SM) Throughput",
    "Achieved Occupancy",
    "Registers Per Thread",
    "Dynamic Shared Memory Per Block",
)


def located(name: str) -> str | None:
    """A tool on the PATH, or in the folders of CUDA's installers."""
    places = [*glob.glob(f"/usr/local/cuda*/bin/{name}"), *glob.glob(f"/opt/nvidia/nsight-compute/*/{name}")]
    return shutil.which(name) or (sorted(places)[-1] if places else None)


def run_until(command: list[str], seconds: float, **more: object) -> tuple[int | None, str]:
    """The exit status (None: ended for lack of time) and the end of what was printed. Whatever it started goes too."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, **more)  # type: ignore[call-overload]
        try:
            code = process.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
        out.seek(0)
        return code, out.read().decode(errors="replace")[-500:]


def sanitizer(setting: Setting) -> Iterator[Task]:
    yield Task("memcheck", lambda: memcheck(setting), MOST)


def memcheck(setting: Setting) -> Iterator[Row]:
    """The smoke checks once more, with kernels from Triton's cache; yields their rows, also for a run that was
    ended."""
    tool = located("compute-sanitizer")
    if tool is None:
        yield {"skipped": "no compute-sanitizer"}
        return
    report = setting.out / MEMCHECK
    report.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        seconds = setting.left()
        command = [
            tool, "--tool", "memcheck", "--report-api-errors", "no", "--error-exitcode", "9", "--log-file", str(report),
            sys.executable, "-m", "benchmarks.gpu.worker", "--out", folder, "--only", "smoke", "--seconds", str(seconds)
        ]  # fmt: skip
        # A cached allocation hides what is beyond a tensor's end.
        environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        code, end = run_until([*command, *["--rehearse", "--first=1"] * setting.rehearse], seconds, env=environment)
        file = Path(folder) / "gpu.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    checked = [row for row in rows if row["section"] == "smoke" and "kernels" in row]
    for row in checked:
        yield {name: row[name] for name in ("op", "case", "dtype", "exact", "kernels", "ok")} | {"check": row["task"]}
    text = report.read_text(errors="replace") if report.exists() else ""
    errors = re.findall(r"ERROR SUMMARY: (\d+) error", text)
    faults = [line.strip("= ") for line in text.splitlines() if "Invalid" in line or "Error:" in line]
    yield {
        "returned": code,
        "ended_for_time": code is None,
        "checks": len(checked),
        "errors": errors,
        "first": faults[:5],
        "report": MEMCHECK,
        "end": end,
        "ok": code in (0, None) and bool(checked) and not faults,
    }


def ncu(setting: Setting) -> Iterator[Task]:
    for place in range(1 if setting.small else 3):
        yield Task(f"slowest {place + 1}", lambda place=place: profile(setting, place), MOST)


def slowest(rows: list[Row]) -> list[Row]:
    """Our rows by the microseconds above the floor, most first; one per op and direction. Those in a CUDA graph, where
    there is one: other calls may have waited for the host."""
    timed: dict[tuple[str, str], tuple[float, Row]] = {}
    for row in rows:
        ours = row.get("contenders", {}).get("siamfast", {})
        if row["section"] == "ops" and "device_us" in ours and "floor_us" in row:
            above = ours.get("graph_us", ours["device_us"]) - row["floor_us"]
            kind = (row["op"], row["pass"])
            if kind not in timed or above > timed[kind][0]:
                timed[kind] = (above, row)
    return [row for _, row in sorted(timed.values(), key=lambda pair: -pair[0])]


def profile(setting: Setting, place: int) -> Row:
    tool = located("ncu")
    if tool is None:
        return {"skipped": "no ncu"}
    ops = slowest([json.loads(line) for line in setting.rows.read_text().splitlines()])
    if place >= len(ops):
        return {"skipped": f"{len(ops)} ops were timed"}
    row, began = ops[place], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        command = [
            tool, "--clock-control", "none", "--set", "detailed", "--launch-count", str(LAUNCHES), "--kernel-name",
            f"regex:^({'|'.join(our_kernels())})$", "--log-file", str(report), sys.executable, "-m",
            "benchmarks.gpu.tools", setting.device, row["task"],
        ]  # fmt: skip
        code, end = run_until(command, setting.left())
        text = report.read_text(errors="replace") if report.exists() else ""
    with (setting.out / NCU).open("a") as file:
        file.write(f"# {row['task']}\n{text}\n")
    return {
        "of": row["task"],
        "returned": code,
        "kernels": parsed(text),
        "report": NCU,
        "end": end,
        "took": time.monotonic() - began,
        "ended_for_time": code is None,
        "ok": code in (0, None),
    }


def our_kernels() -> list[str]:
    """Names of all @triton.jit functions that are launched: those that end in _kernel."""
    folder = Path(__file__).parents[2] / "kernels"
    texts = [file.read_text() for file in folder.rglob("*.py")]
    return sorted({name for text in texts for name in re.findall(r"^def (\w+_kernel)\(", text, re.MULTILINE)})


def parsed(report: str) -> list[Row]:
    """Each launch's figures, `name [unit]: value`, from a report."""
    launches: list[Row] = []
    for line in report.splitlines():
        if kernel := re.match(r"\s*(\w+_kernel) \(", line):
            launches.append({"kernel": kernel[1]})
        for name in METRICS:
            if launches and (value := re.match(rf"\s*{re.escape(name)}\s+(\S+)\s+([\d.,]+)\s*$", line)):
                launches[-1].setdefault(f"{name} [{value[1]}]", float(value[2].replace(",", "")))
    return launches


def main() -> None:
    device, group = sys.argv[1:]
    import torch

    from benchmarks.gpu import checkout, timing
    from benchmarks.harness import OURS

    checkout.use_checkout()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    cases = timing.ordered_cases(device == "cpu")
    (case,) = [case for case in cases if case.group == group]
    run = case.make(device, False).runs[OURS]
    for _ in range(3):
        run()


if __name__ == "__main__":
    main()
