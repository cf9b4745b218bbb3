"""The options of commands that run on an engine: --engine, --scheduler, --workers."""

from __future__ import annotations

import argparse
import os

from siamfast.engine import ENGINES


def add_engine_arguments(parser: argparse.ArgumentParser, default: int) -> None:
    """Add --engine, --scheduler and --workers to a command. default: of --workers, on this machine without dask."""
    parser.add_argument("--engine", choices=ENGINES, default="local", help="local (default), or dask's workers")
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="dask scheduler, tcp://host:8786 (default: start workers on this machine)",
    )
    usual = {-1: "-1", 0: "0; dask: -1"}[default]
    parser.add_argument("--workers", type=int, help=f"processes; -1: one per core, 0: this one only (default: {usual})")
    parser.set_defaults(default_workers=default)


def check_engine_arguments(arguments: argparse.Namespace) -> None:
    """Check the options of `add_engine_arguments`, and set `workers` to a number of processes.

    Raises:
        ValueError: a wrong option, or options that exclude each other, in one line.
    """
    if arguments.workers is not None and arguments.workers < -1:
        raise ValueError(f"--workers: got {arguments.workers}, expected -1 or more")
    if arguments.scheduler is not None and arguments.engine != "dask":
        raise ValueError("--scheduler: given without --engine dask")
    if arguments.scheduler is not None and arguments.workers is not None:
        raise ValueError("--workers: given with --scheduler, whose cluster has its own number of workers")
    if arguments.workers == 0 and arguments.engine == "dask":
        raise ValueError("--workers: got 0 with --engine dask, expected 1 or more, or -1")
    if arguments.workers is None:
        arguments.workers = -1 if arguments.engine == "dask" else arguments.default_workers
    if arguments.workers == -1:
        arguments.workers = len(os.sched_getaffinity(0))
