"""The process that a parser is fuzzed in."""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
import tempfile
import time
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.targets import TARGETS, draw

ALLOWED = (ValueError, TypeError, OSError)
SECONDS = 20  # allowed per call, with room for a machine three times slower
MEMORY = 3 << 30  # bytes allowed beyond the process's use at its start


def work(place: int, path: Path, numbers: range, seed: int, out: Connection, seconds: float) -> None:
    """Make the calls of `numbers` in a process of its own, as long as there is time."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    target = TARGETS[place]
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        seeds = target.seeds(Path(folder))
    _limit_memory()
    signal.signal(signal.SIGALRM, _too_long)
    end = time.monotonic() + seconds
    for number in itertools.takewhile(lambda _: time.monotonic() < end, numbers):
        path.write_bytes(draw(target, seeds, random.Random(f"{seed} {target.name} {number}")))
        text = ""
        out.send((number, ""))
        signal.alarm(SECONDS)
        try:
            target.call(path)
        except ALLOWED:
            pass
        except BaseException:
            text = traceback.format_exc()
        signal.alarm(0)
        if text:
            out.send((number, text))


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _too_long(number: int, frame: object) -> None:
    raise RuntimeError(f"a call took more than {SECONDS} s")
