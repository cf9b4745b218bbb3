"""Triton's cache filled by many processes at once, each of which makes a part of the calls of later sections.

The calls are real ones, not compilations from a list of signatures: a launch is then specialized (on alignment, sizes
of 1 and multiples of 16) as the later one will be. A kernel that crashes here costs its process alone.

python -m benchmarks.gpu.warm --part 0 --parts 12 --seconds 60   # one process's part; a JSON line per call
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.gpu.schedule import Row, reason
from benchmarks.gpu.tasks import Setting, Task

MOST_PARTS = 12  # processes, each with a CUDA context of some 500 MB
MOST = 100.0  # seconds; it ends itself with its section
SPARE = 2  # processors left to the C++ build and to this process


def warm(setting: Setting) -> Iterator[Task]:
    yield Task("parallel compiles", lambda: compile_all(setting), MOST)


def compile_all(setting: Setting) -> Row:
    parts = 1 if setting.rehearse else max(1, min(MOST_PARTS, (os.cpu_count() or 2) - SPARE))
    until = time.monotonic() + setting.left()
    command = [sys.executable, "-m", "benchmarks.gpu.warm", "--parts", str(parts), "--seconds", str(setting.left())]
    command += ["--rehearse"] * setting.rehearse
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(part) for part in range(parts)]
        running = []
        for part, file in enumerate(files):
            with file.open("wb") as out, file.with_suffix(".err").open("wb") as errors:
                running.append(subprocess.Popen([*command, "--part", str(part)], stdout=out, stderr=errors))
        for process in running:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        calls = [call for file in files for call in _whole_lines(file)]
        broken = {
            file.name: file.with_suffix(".err").read_text(errors="replace")[-300:]
            for file, process in zip(files, running, strict=True)
            if process.returncode not in (0, -9)  # done, or ended for lack of time
        }
    failed = {call["name"]: call["error"] for call in calls if "error" in call}
    slowest = sorted(calls, key=lambda call: -call["seconds"])[:5]
    # Not "ok": false: each failure has its own row in the section that makes the call.
    return {
        "processes": parts,
        "calls": len(calls),
        "failed": failed,
        "broken": broken,
        "seconds_of_calls": sum(call["seconds"] for call in calls),
        "slowest": {call["name"]: call["seconds"] for call in slowest},
    }


def _whole_lines(file: Path) -> Iterator[Row]:
    for line in file.read_text(errors="replace").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue  # of a process that was ended, or a library's own words


def calls(device: str, tiny: bool) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every call of later sections by its name, in their order."""
    from benchmarks.gpu.machine import tf32_products
    from benchmarks.gpu.timing import fused_cases, ordered_cases
    from benchmarks.gpu.values import smoke_checks, value_checks
    from benchmarks.harness import OURS

    def checked(check) -> None:  # type: ignore[no-untyped-def]
        with tf32_products(check.tf32):
            check.run(device)

    for check in (*smoke_checks(), *value_checks(tiny)):
        yield check.name, lambda check=check: checked(check)
    for case in (*ordered_cases(tiny), *fused_cases(tiny)):
        yield case.group, lambda case=case: case.make(device, False).runs[OURS]()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", type=int)
    parser.add_argument("--parts", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    import torch

    from benchmarks.gpu import checkout, rehearsal

    checkout.use_checkout()
    if options.rehearse:
        rehearsal.replace_cuda()
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    own_calls = list(calls("cpu" if options.rehearse else "cuda", options.rehearse))[options.part :: options.parts]
    for name, call in own_calls[:3] if options.rehearse else own_calls:
        if time.monotonic() > until:
            return
        row: Row = {"name": name}
        began = time.monotonic()
        try:
            call()
            torch.cuda.synchronize()
        except Exception as error:
            row["error"] = reason(error)
        print(json.dumps(row | {"seconds": round(time.monotonic() - began, 3)}), flush=True)


if __name__ == "__main__":
    main()
