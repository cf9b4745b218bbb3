"""Everything that needs a real GPU, in one command, most important first; results are written as JSON lines.

python -m benchmarks.gpu --out DIR             # at most 560 s (--seconds); DIR/gpu.jsonl grows line by line
python -m benchmarks.gpu --out DIR --more      # a second call: tuning, training, compiled peers
python -m benchmarks.gpu --out DIR --rehearse  # all of it at tiny sizes on a CPU, with stand-ins for what is CUDA's

In this order: what is installed; the C++ extension built in the background; Triton's cache warmed by parallel
compiles; every kernel once; a test for races; values and gradients beside the float64 reference; the smallest once more
under compute-sanitizer; the machine's own speeds; every op beside its peers, called and as a CUDA graph; head and
loss in one call beside the two ops; what calls cost the host; Nsight Compute on the three slowest; tracking.

Every section has its own time (schedule.py), and what it leaves out is named, and done at the end where time is left.
An exception is a row. The work is a second process's: after a crash, a hang or a lost GPU another one goes on behind
the task that broke. Runs from a source checkout, without anything built, with torch, Triton, NumPy and OpenCV.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu import stand_ins
from benchmarks.gpu.schedule import SECONDS, Row, append
from benchmarks.gpu.supervisor import supervise
from benchmarks.gpu.worker import HOMES


def main(arguments: list[str] | None = None) -> int:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.jsonl and the tools' reports")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of the whole run (default: %(default).0f)")
    parser.add_argument("--more", action="store_true", help="tuning, training and compiled peers in place of the rest")
    parser.add_argument("--only", choices=HOMES, action="append", help="this section; may be given more than once")
    parser.add_argument("--commit", help="for the rows, where git is not there to tell")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU, in Triton's interpreter")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = options.out / "gpu.jsonl"
    progress = rows.with_suffix(".progress.jsonl")
    progress.unlink(missing_ok=True)  # from an earlier call
    first = len(rows.read_text().splitlines()) if rows.exists() else 0

    def write(row: Row) -> None:
        row = {"seconds": round(time.monotonic() - began, 2), "commit": options.commit} | row
        append(row, rows)
        print(json.dumps(row), flush=True)

    given = ["--out", str(options.out), "--began", str(began), "--seconds", str(options.seconds)]
    given += ["--more"] * options.more + ["--rehearse"] * options.rehearse
    given += ["--commit", options.commit] if options.commit else []
    given += [word for name in options.only or () for word in ("--only", name)]
    with tempfile.TemporaryDirectory() as folder:
        if options.rehearse:
            os.environ |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
            os.environ["PATH"] = os.pathsep.join((str(stand_ins.write(Path(folder))), os.environ["PATH"]))
        command = [sys.executable, "-m", "benchmarks.gpu.worker", *given]
        supervise(command, progress, options.out / "worker.log", began + options.seconds, write)
    results = [json.loads(line) for line in rows.read_text().splitlines()[first:]]
    wrong = [row for row in results if not row.get("ok", True)]
    print(f"\n{len(results)} rows in {time.monotonic() - began:.0f} s, {len(wrong)} wrong:")
    for row in wrong:
        print(f"  {row['section']}, {row['task']}: {row.get('error') or json.dumps(row)[:300]}")
    for section, left in ((row["section"], row["left_out"]) for row in results if row["section"] == "end"):
        print(f"{section}: left out {({name: len(tasks) for name, tasks in left.items()}) or 'nothing'}")
    return 1 if wrong or not results else 0


if __name__ == "__main__":
    sys.exit(main())
