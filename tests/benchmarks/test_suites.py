"""Every suite of `pytest benchmarks/` makes its inputs, and our values pass the check that comes before the timing."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.harness import OURS

SUITES = sorted(path.stem for path in Path(harness.__file__).parent.glob("bench_*.py"))


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_makes_its_first_case_and_checks_our_values(suite: str) -> None:
    case = next(importlib.import_module(f"benchmarks.{suite}").cases(True))
    made = case.make("cpu", False)
    assert set(made.runs) == set(case.contenders)
    made.check(OURS)
    made.runs[OURS]()
