"""`python -m tests.fuzz`: many calls of each parser; inputs that crash, hang, or raise an error that no user should see
are kept.

Each parser runs in a process of its own, with a limit of memory. A call may end in ValueError, TypeError or OSError and
in nothing else; the input of one that does is written to --keep, and the process goes on with the next one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.targets import TARGETS, Target
from tests.fuzz.worker import work


def main() -> int:
    """Fuzz all parsers; returns 1 if a call failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=100_000, help="of all parsers together (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="at most (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of the damage (default: the time)")
    parser.add_argument("--only", default="", metavar="NAME", help=", ".join(target.name for target in TARGETS))
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="inputs that fail (default: %(default)s)")
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    targets = [target for target in TARGETS if arguments.only in ("", target.name)]
    arguments.keep.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}", flush=True)
    end = time.monotonic() + 60 * arguments.minutes
    failed = calls = 0
    for number, target in enumerate(targets):
        share = (end - time.monotonic()) / (len(targets) - number)
        done, failures = _fuzz(target, arguments.calls // len(targets), seed, arguments.keep, share)
        calls, failed = calls + done, failed + failures
        print(f"{target.name:<16}{done:>8} calls{failures:>5} failed", flush=True)
    print(f"{calls} calls, {failed} failed" + (f": {arguments.keep}" if failed else ""))
    return int(failed > 0)


def _fuzz(target: Target, calls: int, seed: int, keep: Path, seconds: float) -> tuple[int, int]:
    """Returns the number of calls and of failures. After a process that dies, another continues after that call."""
    failures, first, end = 0, 0, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input" / target.name.replace(" ", "-")
        while first < calls and time.monotonic() < end:
            receiver, sender = multiprocessing.Pipe(duplex=False)
            process = multiprocessing.get_context("spawn").Process(
                target=work,
                args=(TARGETS.index(target), path, range(first, calls), seed, sender, end - time.monotonic()),
            )
            process.start()
            sender.close()
            number = -1
            while True:
                try:
                    number, text = receiver.recv()
                except EOFError:
                    break
                if text:
                    failures += 1
                    _keep(path, keep, target.name, number, text)
            process.join()
            if process.exitcode == 0:
                return number + 1, failures
            if number < 0:
                raise SystemExit(f"{target.name}: the process ended with {process.exitcode} before the first call")
            failures += 1
            _keep(path, keep, target.name, number, f"the process ended with {process.exitcode}")
            first = number + 1
    return first, failures


def _keep(path: Path, keep: Path, name: str, number: int, text: str) -> None:
    kept = keep / f"{name.replace(' ', '-')}-{number}"
    if path.is_file():
        shutil.copy(path, kept)
    kept.with_name(kept.name + ".txt").write_text(text)
    print(f"{kept}: {text.strip().splitlines()[-1][:150]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
