"""Launches compile as a GPU's driver would have them compiled, at sizes of 1 too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from siamfast.kernels import tf32
from siamfast.kernels.xcorr_launch import EXACT, precision


@pytest.mark.parametrize(("setting", "expected"), [("ieee", False), ("tf32", True)])
def test_tf32_is_read_where_the_newer_settings_are(setting: str, expected: bool) -> None:
    """After them the older getter raises; each restores what was there."""
    before = torch.backends.cudnn.conv.fp32_precision
    try:
        torch.backends.cudnn.conv.fp32_precision = setting
        assert tf32.allowed() == expected
        assert precision(torch.zeros(1)) == ("tf32" if expected else EXACT)
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    old = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = expected
    assert tf32.allowed() == expected
    torch.backends.cudnn.allow_tf32 = old


def test_launches_compile_with_their_own_specialisation() -> None:
    script = Path(__file__).with_name("launched.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("full_forward_kernel", "add_parts_kernel", "balanced_logistic_loss_kernel", "augment_kernel"):
        assert name in done.stdout
