"""Makes pytest items of every suite's cases: one per contender, so that the table of pytest-benchmark shows all.

--quick: fewer cases, shorter. --compiled: also peers under torch.compile. --results FILE: a JSON line per case.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import harness


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("siamfast")
    group.addoption("--quick", action="store_true", help="fewer cases, less time for each: under two minutes")
    group.addoption("--compiled", action="store_true", help="also the peers under torch.compile, minutes of compiling")
    group.addoption("--results", type=Path, help="append a JSON line a case to this file")


def pytest_configure(config: pytest.Config) -> None:
    harness.steady_heap()
    if hasattr(config.option, "benchmark_max_time"):
        config.option.benchmark_max_time = 0.02 if config.getoption("--quick") else 0.1
        config.option.benchmark_min_rounds = 1  # the rows come from our own turns; this is for the table alone
        config.option.benchmark_columns = ["median", "iqr", "rounds"]
        config.option.benchmark_sort = "name"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "timed" not in metafunc.fixturenames:
        return
    compiled = metafunc.config.getoption("--compiled")
    pairs = [
        pytest.param((case, name), id=f"{case.name}-{case.direction}-{name}")
        for case in metafunc.module.cases(metafunc.config.getoption("--quick"))
        for name in (*case.contenders, *(("compiled",) if compiled and case.compilable else ()))
    ]
    metafunc.parametrize("timed", pairs, indirect=True)


class _Current:
    """The running case: its inputs are made once and released before the next case's."""

    case: harness.Case | None = None
    made: harness.Made
    row: harness.Row


@pytest.fixture
def timed(request: pytest.FixtureRequest, benchmark: Any) -> None:
    """Checks the contender's values, measures the whole case in turn at its first item, then pytest-benchmark times."""
    case, name = request.param
    options = request.config.option
    if _Current.case is not case:
        _Current.made = harness.Made({}, lambda name: None)
        gc.collect()
        torch._dynamo.reset()
        _Current.case, _Current.made = case, case.make("cpu", options.compiled)
        for contender in _Current.made.runs:
            _Current.made.check(contender)
        _Current.row = harness.measure(case, _Current.made, 0.05 if options.quick else 0.2)
        if options.results:
            harness.append(_Current.row, options.results)
    benchmark.group = case.group
    benchmark.extra_info.update({k: v for k, v in _Current.row.items() if k != "contenders"})
    benchmark.extra_info.update(_Current.row["contenders"][name])
    benchmark(_Current.made.runs[name])
