"""Watches the worker: restarts it after a crash or a lost GPU, ends it if it hangs, and writes its missing rows.

After a CUDA error that stays (an illegal address) every later call of the process fails; only another process goes on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.gpu.schedule import Progress, Row

LOST_DEVICE = 70  # a worker's exit code: its row is written, its GPU is not to be used any more


def supervise(
    command: list[str], progress_file: Path, log: Path, until: float, write: Callable[[Row], None], poll: float = 0.1
) -> None:
    """Run the worker until it is finished or `until` has come."""
    idle = 0  # workers in a row that began nothing
    while time.monotonic() < until and idle < 2:
        before = Progress.read(progress_file).begun
        with log.open("ab") as errors:
            worker = subprocess.Popen(command, stderr=errors, start_new_session=True)
        hung = _watch(worker, progress_file, until, poll)
        progress = Progress.read(progress_file)
        if worker.returncode == 0 and progress.finished:
            return
        error = hung or _ending(worker.returncode, log)
        if worker.returncode != LOST_DEVICE or progress.running:
            section, task = progress.running[:2] if progress.running else ("run", "worker")
            write({"section": section, "task": task, "ok": False, "error": error})
        if progress.running:
            progress.note("done", progress.running[0])
        idle = idle + 1 if progress.begun == before else 0


def _watch(worker: subprocess.Popen[bytes], progress_file: Path, until: float, poll: float) -> str | None:
    """Wait for the worker's end; why it was ended, or None."""
    while worker.poll() is None:
        time.sleep(poll)
        now, running = time.monotonic(), Progress.read(progress_file).running
        limit = min(until, running[3]) if running else until
        if now > limit:
            os.killpg(worker.pid, signal.SIGKILL)  # its own group: what it has started goes with it
            _reap(worker)
            return "the run's time was over" if now > until else f"still running after {now - running[2]:.0f} s"
    return None


def _reap(worker: subprocess.Popen[bytes]) -> None:
    try:
        worker.wait(20)
    except subprocess.TimeoutExpired:  # stuck in the driver: the next one may still do better
        worker.returncode = -signal.SIGKILL


def _ending(code: int, log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "nothing on its standard error"
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
    return f"the worker ended with {cause}: {last}"[:300]
