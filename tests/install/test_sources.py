"""The source distribution has what a build needs; metadata and versions agree; a wrong Python on PATH is not taken."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import siamfast
from tests.install import matrix
from tests.install.pythons import ROOT, CommandFailed, python_on_path, run


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files that setuptools puts into a source distribution, without building it."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("egg")
    # pybind11 is there only while a wheel is built; the list of files needs no more of it than these names.
    (folder / "pybind11").mkdir()
    (folder / "pybind11/__init__.py").write_text("def get_include(): return ''\n")
    (folder / "pybind11/setup_helpers.py").write_text(
        "import setuptools\n"
        "from setuptools.command.build_ext import build_ext\n"
        "class ParallelCompile:\n"
        "    def __init__(self, **names): pass\n"
        "    def install(self): pass\n"
        "def Pybind11Extension(*arguments, cxx_std, **names): return setuptools.Extension(*arguments, **names)\n"
    )
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(folder)})
    [listed] = folder.glob("*.egg-info/SOURCES.txt")
    return set(listed.read_text().splitlines())


def test_source_distribution_has_all_that_a_build_needs(sources: set[str]) -> None:
    parts = (("csrc", ("*.cpp", "*.h", "*.inl")), ("kernels", ("*.py",)), ("siamfast", ("*.py", "py.typed")))
    needed = {
        str(path.relative_to(ROOT))
        for folder, patterns in parts
        for pattern in patterns
        for path in (ROOT / folder).rglob(pattern)
    }
    needed |= {str(path.relative_to(ROOT)) for path in (ROOT / "siamfast/models/weights").iterdir()}
    needed |= {"setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "constraints.txt"}
    assert sorted(name for name in needed - sources if "__pycache__" not in name) == []


def test_every_classified_version_has_a_row() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    classified = set(re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text))
    assert classified
    assert classified <= {row.python for row in matrix.ROWS}


def test_citation_has_the_version() -> None:
    [version] = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert version == siamfast.__version__


def test_lower_bounds_become_pins() -> None:
    pins = matrix.lowest()
    assert "numpy==1.26.*" in pins
    assert "av==14.0.*" in pins  # `av>=14`


def test_a_row_replaces_what_it_pins() -> None:
    text, triton = matrix.constraints(matrix.Row("any", "3.12", ("torch==2.11.0", "triton==3.6.0", "matplotlib")))
    names = [line.partition("==")[0] for line in text.splitlines()]
    assert triton == "triton==3.6.0"
    assert "torch==2.11.0" in text.splitlines()
    assert names.count("torch") == 1
    assert not {"triton", "matplotlib", "setuptools"} & set(names)


def test_python_of_another_version_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python3.99"
    program.write_text("#!/bin/sh\necho 3.9\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert python_on_path("3.99") is None
    program.write_text("#!/bin/sh\necho 3.99\n")
    assert python_on_path("3.99") == str(program)


def test_a_row_without_its_python_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = matrix.try_row(matrix.Row("old", "3.10"), tmp_path, everything=False, keep=False)
    assert "| old | 3.10 | - | - | - | - | not run here: no python3.10 on PATH | - |" in matrix.table([outcome])


def test_a_failed_test_fails_its_row(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    cases = (
        "<testcase classname='a' name='b'/>",
        *(
            f"<testcase classname='a' name='{name}'><{kind}/></testcase>"
            for name, kind in (("c", "failure"), ("d", "skipped"))
        ),
    )
    report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    outcome = matrix.read_report(matrix.Row("any", "3.11"), {}, report)
    assert outcome.failed
    assert outcome.tests == ("a::c",)
    assert "1 passed, 1 failed, 1 skipped" in outcome.counts


def test_a_command_that_fails_is_named_with_its_last_error(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="ended with 3: ERROR: no such version"):
        run([sys.executable, "-c", "print('ERROR: no such version'); raise SystemExit(3)"], tmp_path / "log")
