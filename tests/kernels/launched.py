"""Run by test_launch.py: launchers compile with a launch's own specialisation, on CPU tensors under a stand-in driver.

A launch makes constants of integer arguments that are 1, and of nothing that the interpreter or a static build shows: a
method call on such an argument (`rows.to(tl.int64)`) compiles for every size but 1.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import triton
from siamfast.kernels import augment, balanced_logistic_loss, xcorr_launch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from siamfast.ops._balanced_logistic_loss_raw import Options
from siamfast.ops.augment import no_draws


class StandIn:
    """What Triton asks a driver when it specialises and compiles: the chip. Nothing is run."""

    def __init__(self, chip: int) -> None:
        self._target = GPUTarget("cuda", chip, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


compiled: list[str] = []
_run = JITFunction.run


def run(self: Any, *arguments: Any, grid: Any, warmup: bool = False, **options: Any) -> Any:
    compiled.append(self.fn.__name__)
    return _run(self, *arguments, grid=grid, warmup=True, **options)


def main() -> None:
    JITFunction.run = run
    for chip in (80, 90):
        driver.set_active(StandIn(chip))
        for templates, searches, size in ((1, 1, 22), (1, 3, 22), (2, 2, 9)):
            z, x = torch.zeros(templates, 256, 6, 6), torch.zeros(searches, 256, size, size)
            blocks = xcorr_launch.forward_blocks(6, 6, size, size, 1, xcorr_launch.precision(x))
            assert blocks is not None
            xcorr_launch.launch_forward(z, x, None, None, 1.0, 0.0, 0, 0, False, blocks)
        for samples in (1, 2):
            scores, labels = torch.zeros(samples, 17, 17), torch.zeros(1, 17, 17)
            for shared, balance in itertools.product((labels, None), range(3)):
                balanced_logistic_loss.launch(scores, shared, None, Options(8.0, 16.0, 0.0, 1.0, 0, 0, balance, 0))
        for side in (1, 16):
            images = torch.zeros(side, 3, 20, 20, dtype=torch.uint8)
            draws = no_draws(side, (20, 20))
            augment.launch(images, draws, side, side, [0.0] * 3, [1.0] * 3, torch.float32)
    print(f"{len(compiled)} launches of {', '.join(sorted(set(compiled)))}; Triton {triton.__version__}")


if __name__ == "__main__":
    main()
