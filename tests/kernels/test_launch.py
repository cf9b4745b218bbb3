"""Launches compile as they would for a real GPU, at sizes of 1 too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from siamfast.kernels import tf32

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("setting", "expected"), [("ieee", False), ("tf32", True)])
def test_tf32_follows_the_newer_settings(setting: str, expected: bool) -> None:
    """The older getter raises once the newer settings were used; each setting is restored."""
    before = torch.backends.cudnn.conv.fp32_precision
    try:
        torch.backends.cudnn.conv.fp32_precision = setting
        assert tf32.allowed() == expected
        assert tf32.precision(torch.zeros(1)) == ("tf32" if expected else tf32.EXACT)
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    old = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = expected
    assert tf32.allowed() == expected
    torch.backends.cudnn.allow_tf32 = old


KERNELS = {
    "augment_kernel",
    "augment_means_kernel",
    "balanced_logistic_loss_kernel",
    "crop_and_resize_kernel",
    "depthwise_forward_kernel",
    "depthwise_template_gradient_kernel",
    "diagonal_sums_kernel",
    "gradients_kernel",
    "search_gradient_kernel",
    "template_gradient_kernel",
    "through_unit_rows_kernel",
    "unit_rows_kernel",
    "warp_chosen_kernel",
    "warp_forward_kernel",
    "warp_join_kernel",
    "warp_key_slopes_kernel",
    "warp_lists_kernel",
    "warp_logit_slopes_kernel",
    "warp_query_slopes_kernel",
    "warp_top_keys_kernel",
    "warp_top_slopes_kernel",
}


@pytest.mark.timeout(900)
def test_every_launch_compiles_and_fits_the_chips() -> None:
    """A sample with a fixed seed; `make gpu-proof` compiles all of them."""
    command = [sys.executable, "-m", "tests.kernels.launched"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    launched = next(line for line in done.stdout.splitlines() if line.startswith("launched:"))
    assert set(launched.removeprefix("launched: ").split(", ")) == KERNELS
