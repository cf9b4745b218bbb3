"""`python -m tests.kill`: train, curate, eval and propagate are killed (kill -9) again and again, and run to the end.

Their outputs must equal those of an uninterrupted run, byte for byte where a run resumes; nothing is torn in between,
and no process outlives the killed one.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.kill.commands import COMMANDS, Command


def main() -> int:
    """Run the kill test; returns 1 if anything was lost, torn or left over."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="of each command (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of the moments (default: the time)")
    parser.add_argument("--only", default="", metavar="NAME", help=", ".join(COMMANDS))
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    wrong = 0
    for name, command in COMMANDS.items():
        if arguments.only in ("", name):
            with tempfile.TemporaryDirectory() as folder:
                problems = _kill(command, Path(folder), arguments.kills, random.Random(f"{seed} {name}"))
            print(f"{name}: {arguments.kills} kills, {len(problems)} problems", *problems[:20], sep="\n  ", flush=True)
            wrong += len(problems)
    return int(wrong > 0)


def _kill(command: Command, folder: Path, kills: int, rng: random.Random) -> list[str]:
    """Returns the problems."""
    command.prepare(folder)
    began = time.monotonic()
    _run(command.words(folder, "whole"), folder).check_returncode()
    duration = time.monotonic() - began
    problems = []
    number = 0
    for kill in range(kills):
        out = f"killed-{number}"
        delay = rng.uniform(0, duration)
        process = subprocess.Popen(
            _line(command.words(folder, out)), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            ended = process.wait(delay) is not None
        except subprocess.TimeoutExpired:
            ended = False
        children = _descendants(process.pid)
        process.kill()
        process.wait()
        problems += [f"kill {kill} after {delay:.2f} s: process {pid} is still there" for pid in _left(children)]
        problems += [f"kill {kill} after {delay:.2f} s: {text}" for text in command.torn(folder / out)]
        if ended or not command.resumes:
            problems += (
                [f"ended before kill {kill}: {text}" for text in _compared(command, folder, out)] if ended else []
            )
            number += 1
    out = f"killed-{number}"
    if command.resumes:
        last = _run(command.words(folder, out), folder)
        if last.returncode:
            problems.append(f"run again it ends with {last.returncode}: {last.stderr[-300:]}")
        problems += _compared(command, folder, out)
    return problems


def _compared(command: Command, folder: Path, out: str) -> list[str]:
    whole, interrupted = command.result(folder / "whole"), command.result(folder / out)
    if whole.keys() != interrupted.keys():
        return [f"has {sorted(interrupted)[:5]}, an uninterrupted run {sorted(whole)[:5]}"]
    return [f"{name} differs from an uninterrupted run's" for name in whole if whole[name] != interrupted[name]]


def _line(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "siamfast.cli", *words]


def _run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_line(words), cwd=folder, capture_output=True, text=True, timeout=600)


def _descendants(pid: int) -> set[int]:
    """The children of a process, and their descendants."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    descendants, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - descendants
        descendants |= new
    return descendants


def _left(pids: set[int]) -> list[int]:
    """The processes that still run after they had time to end."""
    end = time.monotonic() + 30
    running = sorted(pids)
    while running and time.monotonic() < end:
        time.sleep(0.05)
        running = [pid for pid in running if _runs(pid)]
    return running


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
