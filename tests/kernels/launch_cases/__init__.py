"""Calls of every op with Triton kernels, forward and backward: the shapes of the benchmark's table, and random ones."""

from __future__ import annotations

from collections.abc import Iterator

from tests.kernels.launch_cases.case import Case
from tests.kernels.launch_cases.correlations import correlations, random_correlation, random_gradients
from tests.kernels.launch_cases.images import images, random_augment, random_crop
from tests.kernels.launch_cases.losses import losses, random_joint_loss, random_loss
from tests.kernels.launch_cases.programs import random_program
from tests.kernels.launch_cases.warps import random_warp, warps


def table() -> Iterator[Case]:
    for cases in (correlations, losses, images, warps):
        yield from cases()


RANDOM = (
    random_correlation,
    random_gradients,
    random_loss,
    random_joint_loss,
    random_crop,
    random_augment,
    random_warp,
    random_program,
)
