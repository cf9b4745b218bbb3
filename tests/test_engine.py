"""Tasks run the same in this process, in several and on dask; dask's workers may die, must match, and only read."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from siamfast import engine as engine_module
from siamfast.data.sequences import Sequence, read_sequence
from siamfast.engine import Engine, _on_worker, open_engine
from siamfast.evaluation import one_pass
from siamfast.evaluation.one_pass import Digests, Entry, Run, run_one
from siamfast.models.weights import default_weights
from tests.evaluation.data_sets import box_rows, evaluate, make_folder, summary, write_frames

NAMES = ("a", "b", "c", "d", "e", "f")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Dask's scheduler and two worker processes; the environment that its nannies change is restored."""
    distributed = pytest.importorskip("distributed")
    before = dict(os.environ)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as started:
        yield started
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six sequences of eight frames."""
    root = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(NAMES):
        (root / name / "groundtruth.txt").write_text(box_rows(write_frames(root / name / "img", seed)))
    return root


@pytest.fixture(scope="module")
def expected(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The results of a worker process here."""
    out = tmp_path_factory.mktemp("expected")
    assert evaluate("folder", data, out, "--workers", "1") == 0
    return _results(out)


def _results(out: Path, label: str = "mobile") -> dict[str, bytes]:
    """Boxes and confidences, byte by byte; times differ from run to run."""
    folders = (out / "results" / "folder" / label, out / "results" / "confidences" / "folder" / label)
    return {f"{folder.parts[-3]}/{p.stem}": p.read_bytes() for folder in folders for p in folder.glob("*.txt")}


def _dask(cluster: Any) -> list[str]:
    return ["--engine", "dask", "--scheduler", cluster.scheduler_address]


def _damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")


def _negative(number: int) -> int:
    return -number


def _sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def _all_of(engine: Engine) -> list[tuple[int, int]]:
    tasks, results = deque(range(8)), []
    for task, result in engine.run(_negative, tasks):
        if task == 3:
            tasks.append(10)
        results.append((task, result))
    return sorted(results)


def test_all_engines_run_all_tasks_and_those_that_come_meanwhile(cluster: Any) -> None:
    expected = [(n, -n) for n in (*range(8), 10)]
    settings: list[dict[str, Any]] = [{}, {"workers": 2}, {"engine": "dask", "scheduler": cluster.scheduler_address}]
    for setting in settings:
        with open_engine(**setting) as engine:
            assert _all_of(engine) == expected, setting


def test_dask_started_here_leaves_the_environment_as_it_is() -> None:
    pytest.importorskip("distributed")
    before = dict(os.environ)
    with open_engine("dask", workers=1) as engine:
        assert engine.everywhere(os.getpid) != [os.getpid()]
        assert dict(os.environ) == before
        # Ctrl-C is for the command alone: a worker that took it would print a traceback.
        (pid,) = engine.everywhere(os.getpid)
        os.kill(pid, signal.SIGINT)
        time.sleep(0.3)
        assert engine.everywhere(os.getpid) == [pid]


def test_dask_gives_the_boxes_of_a_local_run_for_relative_paths_too(
    cluster: Any, data: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in one_pass.Entry("mobile", "mobile")._files():
        shutil.copy(path, tmp_path)
    os.symlink(data, tmp_path / "data")
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere
    words = ["--model", "mobile.safetensors", *_dask(cluster)]
    assert evaluate("folder", Path("data"), Path("out"), *words) == 0
    assert _results(tmp_path / "out") == expected
    assert len(expected) == 2 * len(NAMES)
    assert summary(tmp_path / "out")["about"]["threads"] == 1


def test_sequences_of_a_killed_worker_run_on_another_one(
    cluster: Any, data: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it has sequences to run, when the first result is written."""
    distributed = pytest.importorskip("distributed")
    real, killed = one_pass.write_result, list[int]()

    def killing(*arguments: Any) -> None:
        real(*arguments)
        if not killed:
            with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
                busy = [worker for worker, tasks in client.processing().items() if tasks]
                pids = client.run(os.getpid)
            killed.append(pids[busy[0] if busy else next(iter(pids))])  # none is busy where all were as fast as this
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(one_pass, "write_result", killing)
    assert evaluate("folder", data, tmp_path / "out", *_dask(cluster)) == 0
    assert killed
    assert _results(tmp_path / "out") == expected


def test_a_stopped_run_on_dask_makes_only_what_is_missing(
    cluster: Any, data: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = one_pass.write_result, list[str]()

    def stopping(protocol: Any, results: Path, label: str, name: str, result: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(name)
        real(protocol, results, label, name, result)

    monkeypatch.setattr(one_pass, "write_result", stopping)
    assert evaluate("folder", data, tmp_path / "out", *_dask(cluster)) == 130
    assert len(_results(tmp_path / "out")) == 2 * len(written) == 4
    monkeypatch.setattr(one_pass, "write_result", lambda *a: written.append(a[3]) or real(*a))
    assert evaluate("folder", data, tmp_path / "out", *_dask(cluster)) == 0
    assert sorted(written) == list(NAMES)
    assert _results(tmp_path / "out") == expected


def test_a_sequence_that_workers_cannot_read_is_listed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sequences are changed after the command has read them: a frame of one goes, another's first frame changes."""
    root = make_folder(tmp_path / "data")
    shutil.copytree(root / "a", root / "c")
    real = Sequence.digest

    def and_then_changed(sequence: Sequence) -> str:
        digest, frames = real(sequence), root / sequence.name / "img"
        if sequence.name == "b":
            (frames / "00000002.jpg").unlink()
        if sequence.name == "c":
            shutil.copy(frames / "00000002.jpg", frames / "00000001.jpg")
        return digest

    monkeypatch.setattr(Sequence, "digest", and_then_changed)
    assert evaluate("folder", root, tmp_path / "out", *_dask(cluster)) == 1
    errors = dict(summary(tmp_path / "out")["errors"])
    assert set(errors) == {"b", "c"}
    assert "No such file" in errors["b"]
    assert "frames differ from those of the command" in errors["c"]
    assert all(reason.endswith(f"(on {socket.gethostname()})") for reason in errors.values())
    assert {name.rpartition("/")[2] for name in _results(tmp_path / "out")} == {"a"}


def test_other_weights_on_a_worker_give_an_error_not_results(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, weights = make_folder(tmp_path / "data"), tmp_path / "mine.safetensors"
    shutil.copy(default_weights("siamfc_alexnet.safetensors"), weights)
    real = one_pass.run_all

    def after_a_change(*arguments: Any) -> Iterator[Any]:
        runs = real(*arguments)  # a generator: it reads the weights' digest when it starts
        engine = arguments[5]
        monkeypatch.setattr(
            engine, "run", lambda call, tasks: _damaged(weights) or type(engine).run(engine, call, tasks)
        )
        return runs

    monkeypatch.setattr(one_pass, "run_all", after_a_change)
    assert evaluate("folder", root, tmp_path / "out", "--model", str(weights), *_dask(cluster)) == 1
    errors = summary(tmp_path / "out")["errors"]
    assert len(errors) == 2
    assert all("mine.safetensors has digest" in reason for _, reason in errors)
    assert not _results(tmp_path / "out", "mine")


def test_another_siamfast_on_a_worker_is_refused(
    cluster: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("siamfast.version.__version__", "9.9")
    assert evaluate("folder", data, tmp_path / "out", *_dask(cluster)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "has siamfast 0.1.0, here is" in lines[-1]
    assert not (tmp_path / "out").exists()
    with pytest.raises(RuntimeError, match="a worker has siamfast"):  # one that joined later
        _on_worker("9.9.9", _negative, 1)


def test_threads_never_share_a_tracker(data: Path) -> None:
    """Dask's workers may have several threads; a tracker has the state of one target."""
    runs = [Run(Entry("m", "mobile"), read_sequence(data / name), "cpu") for name in NAMES[:2]]
    alone = [run_one(run) for run in runs]
    trackers: list[Any] = [None, None]
    shared: list[Any] = [None, None]

    def work(n: int) -> None:
        trackers[n] = one_pass._tracker(runs[n])
        assert one_pass._tracker(runs[n]) is trackers[n]
        for _ in range(3):
            shared[n] = run_one(runs[n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trackers[0] is not trackers[1]
    for one, other in zip(alone, shared, strict=True):
        assert one.boxes.tobytes() == other.boxes.tobytes()


def test_a_run_that_fails_elsewhere_names_the_machine(data: Path) -> None:
    sequence = read_sequence(data / "a")
    error = run_one(Run(Entry("m", "mobile"), sequence, "cpu", Digests("0" * 16, sequence.digest())))
    assert isinstance(error, str)
    assert "expected 0000000000000000" in error
    assert socket.gethostname() in error


def test_a_scheduler_that_ends_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(engine_module, "single_thread", lambda: None)  # its workers are threads of this process
    started = distributed.LocalCluster(n_workers=1, processes=False, protocol="tcp://", dashboard_address=":0")
    with open_engine("dask", scheduler=started.scheduler_address) as engine:
        results = engine.run(_sleep, deque([0.0, 0.5, 0.5, 0.5]))
        assert next(results) == (0.0, 0.0)
        started.close()
        with pytest.raises(RuntimeError, match="dask: the scheduler is gone; run the command again to go on"):
            list(results)


def test_processes_end_at_once_when_their_results_are_not_wanted() -> None:
    began, others = time.monotonic(), set(multiprocessing.active_children())
    with open_engine(workers=2) as engine:
        for task, _ in engine.run(_sleep, deque([0.0, 100.0, 100.0])):
            assert task == 0
            break
    assert time.monotonic() - began < 60
    assert set(multiprocessing.active_children()) <= others


@pytest.mark.parametrize("command", ["eval", "curate"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scheduler", "tcp://x:1"], "--scheduler: given without --engine dask"),
        (["--engine", "dask", "--scheduler", "tcp://x:1", "--workers", "2"], "--workers: given with --scheduler"),
        (["--engine", "dask", "--workers", "0"], "--workers: got 0 with --engine dask"),
        (["--workers", "-2"], "--workers: got -2, expected -1 or more"),
        (["--engine", "dask", "--scheduler", "nonsense"], "--scheduler: got 'nonsense', expected"),
        (["--engine", "dask", "--scheduler", "tcp://127.0.0.1:1"], "--scheduler: tcp://127.0.0.1:1 does not answer"),
        (["--engine", "dask", "MISSING"], "--engine: dask needs `pip install 'siamfast[dask]'`"),
    ],
)
def test_wrong_engines_are_named_in_one_line_and_leave_nothing(
    command: str, words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from siamfast.cli import main

    pytest.importorskip("distributed")
    monkeypatch.setattr(engine_module, "_ANSWER", 0.5)
    if "MISSING" in words:
        monkeypatch.setitem(sys.modules, "distributed", None)
        words = words[:-1]
    root, out = make_folder(tmp_path / "data"), tmp_path / "out"
    places = {"eval": [str(root), "--dataset", "folder", "--out", str(out)], "curate": ["folder", str(root), str(out)]}
    assert main([command, *places[command], *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not out.exists()
