"""Processes of pools, data loaders and dask end when the process that made them is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

POOL = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from siamfast.workers import begin_worker

if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=begin_worker)
    futures = [pool.submit(time.sleep, 1) for _ in range(2)]
    [future.result() for future in futures]
    print(*pool._processes, flush=True)
    time.sleep(100)
"""
LOADER = """
import time, torch
from torch.utils.data import DataLoader
from siamfast.workers import begin_worker

class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, index):
        if index > 3:
            time.sleep(100)
        return index

if __name__ == "__main__":
    batches = iter(DataLoader(Slow(), num_workers=2, worker_init_fn=begin_worker))
    next(batches), next(batches)
    print(*(worker.pid for worker in batches._workers), flush=True)
    time.sleep(100)
"""

DASK = """
import os, time
from siamfast.engine import open_engine

if __name__ == "__main__":
    with open_engine("dask", workers=2) as engine:
        print(*engine.everywhere(os.getpid), flush=True)
        time.sleep(100)
"""


def _runs(pid: int) -> bool:
    """Whether the process runs and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("program", [POOL, LOADER, DASK], ids=["pool", "data loader", "dask"])
def test_workers_end_with_a_killed_parent(program: str, tmp_path: Path) -> None:
    if program == DASK:
        pytest.importorskip("distributed")
    (tmp_path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert len(workers) == 2
    assert all(_runs(pid) for pid in workers)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in workers if _runs(pid)]
    for pid in left:
        os.kill(pid, 9)
    assert not left
