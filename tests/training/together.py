"""A program for torchrun: short runs of every task, in the folders OUT/TASK: `torchrun ... -m tests.training.together
OUT`. `test_ranks.py` compares them with the same runs of one process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from siamfast.training.registry import TASKS, make_trainer

ALL: dict[str, Any] = {
    # Plain float32 and a small learning rate: AdamW's steps have the sign of the gradient, also where that is rounding.
    "amp": "off", "steps": 3, "batch_size": 4, "lr": 1e-5, "warmup": 1, "workers": 0, "log_every": 1, "val_every": 3,
    "save_every": 2, "val_pairs": 6,
    "device": "cpu",  # a machine may have one GPU, which two processes cannot share
}  # fmt: skip
# What binds the rows of a batch together: boxes of other samples, a frozen part, an average, a common BatchNorm.
RUNS: dict[str, dict[str, Any]] = {
    "siamfc": {"instance": 175, "max_shift": 16.0, "optimizer": "adamw", "negatives": 0.3, "noise": 4.0},
    "guided": {
        "instance": 231, "head_width": 16, "freeze_backbone": 1, "wrong_guidance": 0.6, "own_boxes": 1.0,
        "color_weight": 1.0, "cycle_weight": 1.0,
    },
    "mobile": {
        "instance": 193, "head_width": 8, "head_blocks": 1, "init": "", "backbone_rate": 0.1, "wrong_guidance": 0.6,
        "average": 0.9,
    },
    "correspondence": {"side": 65, "width": 8, "cycle": 3},
}  # fmt: skip


def train(task: str, out: Path, **changes: Any) -> None:
    """A run of a task, resumed if it is in `out` already."""
    make_trainer(task, TASKS[task].configuration(out=str(out), **(ALL | RUNS[task] | changes))).run()


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")  # once for all: torchrun's environment is for one group
    for name in RUNS:
        train(name, Path(sys.argv[1]) / name)
