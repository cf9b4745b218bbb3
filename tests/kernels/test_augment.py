"""The Triton kernel of augment is right in the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from siamfast.kernels.augment.launch import COLUMNS, FINE, ROWS, blocks, pixels

from siamfast.ops.augment import no_draws
from tests.interpreter import needs_interpreter


@needs_interpreter
def test_kernel_equals_the_reference_in_the_interpreter() -> None:
    script = Path(__file__).with_name("interpreted_augment.py")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "18 cases"


@pytest.mark.parametrize(("step", "blur", "expected"), [(1.0, 0.0, 64), (1.05, 2.0, 64), (2.0, 3.0, 128), (0.5, 0, 32)])
def test_a_tile_covers_what_its_draws_reach(step: float, blur: float, expected: int) -> None:
    table = no_draws(3, (255, 255))
    table[1, 2], table[1, 4] = -step, blur
    table[:, 2:4] = step
    table[0, 2:4] = 0.5
    assert pixels(table, COLUMNS) == expected


def test_a_tile_never_exceeds_64_pixels() -> None:
    """Larger tiles spill registers; the largest step and the widest blur have narrower ones."""
    table = no_draws(1, (255, 255))
    assert blocks(table) == {"ROWS": ROWS, "COLUMNS": COLUMNS, "PIXELS_Y": 32, "PIXELS_X": 64}
    table[:, 2:4], table[:, 4] = 2.0, 3.0
    assert blocks(table) == {"ROWS": ROWS, "COLUMNS": FINE, "PIXELS_Y": 64, "PIXELS_X": 64}
