"""Where independent tasks run: in this process, in processes of this machine, or on the workers of a dask cluster.

Results always come back to the process that asks for them, which writes them; a worker needs to read, never to write.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context, resource_tracker
from typing import Any, TypeVar

from siamfast.version import __version__
from siamfast.workers import begin_worker, single_thread

T = TypeVar("T")
R = TypeVar("R")

ENGINES = ("local", "dask")
_ANSWER = 10  # seconds that a scheduler has to answer
_COUNT_EVERY = 5  # seconds between two counts of dask's workers, which may come and go
_COMPARED = ("torch", "numpy", "cv2", "onnxruntime")  # other versions of them may change the last bits of a result


class Engine:
    """Runs one function on many tasks; made by `open_engine`.

    remote: whether tasks may run on other machines. parallel: whether several tasks run at once.
    """

    remote = False
    parallel = False

    def run(self, call: Callable[[T], R], tasks: deque[T]) -> Iterator[tuple[T, R]]:
        """Yield (task, call(task)) as results come, in any order if the engine is parallel.

        Args:
            call: a function of a module, or a partial of one; it returns errors that concern one task.
            tasks: taken from the left, as workers need them. The caller may add to it between two results.

        Raises:
            RuntimeError: workers are gone, in one line. Whatever `call` raises ends the run.

        >>> tasks = deque([1, 2])
        >>> with open_engine() as engine:
        ...     for task, result in engine.run(abs, tasks):
        ...         if task == 2:
        ...             tasks.append(-3)
        ...         print(task, result)
        1 1
        2 2
        -3 3
        """
        while tasks:
            task = tasks.popleft()
            yield task, call(task)

    def everywhere(self, call: Callable[[], R]) -> list[R]:
        """The results of `call`: one per worker there now if the engine is remote, else one, made here."""
        return [call()]


class _Pool(Engine):
    """Runs tasks on an executor, two per worker under way, so that no worker waits for the next one."""

    parallel = True

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._running: dict[Future[Any], Any] = {}  # and their tasks

    def _workers(self) -> int:
        raise NotImplementedError

    def _submit(self, call: Callable[[T], R], task: T) -> Future[R]:
        return self._executor.submit(call, task)

    def _loss(self, error: BaseException) -> str | None:
        """One line if the error means that workers are gone, else None."""
        raise NotImplementedError

    def abandon(self) -> None:
        """End the tasks under way, if any: nobody waits for their results any more."""
        for future in self._running:
            future.cancel()

    def run(self, call: Callable[[T], R], tasks: deque[T]) -> Iterator[tuple[T, R]]:
        running = self._running
        try:
            while tasks or running:
                while tasks and len(running) < 2 * self._workers():
                    task = tasks.popleft()
                    running[self._submit(call, task)] = task
                # With a limit: workers may have come meanwhile.
                for future in wait(running, timeout=_COUNT_EVERY, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except Exception as error:
            loss = self._loss(error)
            if loss is None:
                raise
            raise RuntimeError(f"{loss}; run the command again to go on") from None


class _Processes(_Pool):
    def __init__(self, executor: ProcessPoolExecutor, workers: int) -> None:
        super().__init__(executor)
        self._processes, self._count = executor, workers

    def _workers(self) -> int:
        return self._count

    def _loss(self, error: BaseException) -> str | None:
        return "a worker process died (out of memory?)" if isinstance(error, BrokenProcessPool) else None

    def abandon(self) -> None:
        super().abandon()
        if self._running:
            for process in list((self._processes._processes or {}).values()):  # public only from Python 3.14 on
                process.kill()


class _Dask(_Pool):
    remote = True

    def __init__(self, client: Any) -> None:
        super().__init__(client.get_executor(pure=False))
        self._client, self._counted, self._count = client, -float("inf"), 1

    def _workers(self) -> int:
        if time.monotonic() - self._counted > _COUNT_EVERY:
            before, self._count = self._count, sum(self._client.nthreads().values())
            self._counted = time.monotonic()
            if before and not self._count:
                print("dask: no worker is there; waiting", file=sys.stderr)
        return max(1, self._count)

    def _submit(self, call: Callable[[T], R], task: T) -> Future[R]:
        return self._executor.submit(_on_worker, __version__, call, task)

    def _loss(self, error: BaseException) -> str | None:
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        if isinstance(error, KilledWorker):
            return "dask: a task ended every worker that tried it (out of memory?)"
        gone = isinstance(error, (CancelledError, CommClosedError)) or self._client.status != "running"
        return "dask: the scheduler is gone" if gone else None

    def everywhere(self, call: Callable[[], R]) -> list[R]:
        return list(self._client.run(_on_worker, __version__, call).values()) or [call()]


def _on_worker(version: str, call: Callable[..., R], *task: Any) -> R:
    """Run a call on a dask worker; a worker that joined after the check at the start is checked here."""
    if version != __version__:
        raise RuntimeError(_other_version("a worker", __version__, version))
    single_thread()
    return call(*task)


def _other_version(worker: str, there: str | None, here: str) -> str:
    return f"--engine: {worker} has {f'siamfast {there}' if there else 'no siamfast'}, here is {here}"


@contextmanager
def open_engine(engine: str = "local", *, workers: int = 0, scheduler: str | None = None) -> Iterator[Engine]:
    """An engine, until the block ends.

    Args:
        engine: local or dask.
        workers: processes of this machine; 0: local tasks run in this process. Without meaning with a scheduler.
        scheduler: the address of a dask scheduler; None: dask's scheduler and workers are started here.

    Raises:
        ValueError: dask is not installed, the scheduler does not answer, or a worker has another siamfast.

    >>> with open_engine() as engine:
    ...     list(engine.run(abs, deque([-1])))
    [(-1, 1)]
    """
    if engine not in ENGINES:
        raise ValueError(f"engine: got {engine!r}, expected one of {', '.join(ENGINES)}")
    if engine == "dask":
        with _dask(workers, scheduler) as opened:
            yield opened
    elif workers:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin_worker) as executor:
            opened = _Processes(executor, workers)
            try:
                yield opened
            finally:
                opened.abandon()
    else:
        yield Engine()


@contextmanager
def _dask(workers: int, scheduler: str | None) -> Iterator[Engine]:
    try:
        import dask
        from distributed import Client, LocalCluster
        from distributed.comm import get_address_host_port, resolve_address
    except ImportError as error:
        raise ValueError(f"--engine: dask needs `pip install 'siamfast[dask]'` ({error})") from error
    with ExitStack() as stack:
        address: Any = scheduler
        if scheduler is None:
            # Nannies would write OMP_NUM_THREADS=1 into this process's environment; tasks set their threads themselves.
            stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": {}}))
            with _ctrl_c_waits():
                address = LocalCluster(
                    n_workers=max(1, workers),
                    threads_per_worker=1,
                    dashboard_address=":0",
                    silence_logs=logging.ERROR,  # not a warning for each task that Ctrl-C ends
                )
            stack.enter_context(address)
        logger = logging.getLogger("distributed.client")  # it prints tracebacks of what is raised here as well
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
        try:
            if scheduler is not None:  # a client for such an address would complain at the process's end
                get_address_host_port(scheduler, strict=True)
                resolve_address(scheduler)
            client = stack.enter_context(Client(address, timeout=_ANSWER, set_as_default=False))
        except ValueError as error:
            raise ValueError(f"--scheduler: got {scheduler!r}, expected such as tcp://host:8786 ({error})") from error
        except (OSError, OverflowError) as error:
            raise ValueError(f"--scheduler: {scheduler} does not answer ({type(error).__name__})") from error
        _check_workers(client)
        print(f"dask's dashboard: {client.dashboard_link}", file=sys.stderr)
        opened = _Dask(client)
        try:
            yield opened
        finally:
            opened.abandon()


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Hold back Ctrl-C until the block ends; processes and threads that start in it never react to it. Otherwise every
    dask worker of the terminal's process group prints a traceback."""
    resource_tracker.ensure_running()  # its start, at the first process, would let the signal through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_workers(client: Any) -> None:
    """Refuse workers with another siamfast, and say where the other packages differ."""

    def versions(names: tuple[str, ...]) -> dict[str, str | None]:  # a local function travels as code, not by its name
        import importlib

        by_name: dict[str, str | None] = {}
        for name in names:
            try:
                by_name[name.partition(".")[0]] = str(importlib.import_module(name).__version__)
            except ImportError:
                by_name[name.partition(".")[0]] = None
        return by_name

    names = ("siamfast.version", *_COMPARED)
    here = versions(names)
    different: set[str] = set()
    try:
        workers: dict[str, dict[str, str | None]] = client.run(versions, names)
    except Exception as error:  # such as code of another Python that cannot be read
        raise ValueError(
            f"--engine: dask's workers cannot run code from here ({type(error).__name__}: {error})"
        ) from error
    for worker, there in workers.items():
        if there["siamfast"] != here["siamfast"]:
            raise ValueError(_other_version(f"worker {worker}", there["siamfast"], __version__))
        different |= {
            f"{name} {there[name]} there, {here[name]} here" for name in _COMPARED if there[name] != here[name]
        }
    if different:
        print(f"dask: results may differ in their last bits: {'; '.join(sorted(different))}", file=sys.stderr)
