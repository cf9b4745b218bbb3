"""The correlations' Triton kernels are right in the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from tests.interpreter import needs_interpreter


@needs_interpreter
def test_kernels_equal_the_reference_in_the_interpreter() -> None:
    script = Path(__file__).with_name("interpreted_xcorr.py")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "17 cases"
