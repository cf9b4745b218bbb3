"""The warp's Triton kernels are right in the interpreter."""

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
    root = Path(__file__).parents[2]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "tests.kernels.interpreted_correspondence_warp"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "every case"
