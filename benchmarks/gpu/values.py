"""The sections that compare our kernels with the float64 reference: each kernel once, then every op at real sizes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from benchmarks.gpu import values_correlations, values_images, values_losses, values_warps
from benchmarks.gpu.checks import Check, compared
from benchmarks.gpu.tasks import Setting, Task, round_robin

GROUPS: tuple[Callable[[bool], Iterator[Check]], ...] = (
    lambda tiny: values_correlations.values("full", tiny),
    lambda tiny: values_losses.values(True, tiny),
    lambda tiny: values_correlations.values("depthwise", tiny),
    lambda tiny: values_warps.values(tiny),
    lambda tiny: values_losses.values(False, tiny),
    lambda tiny: values_images.crops(tiny),
    lambda tiny: values_images.augmentations(tiny),
    lambda tiny: values_correlations.values("pixelwise", tiny),
)


def smoke_checks() -> Iterator[Check]:
    for module in (values_correlations, values_losses, values_images, values_warps):
        yield from module.smoke()


def value_checks(tiny: bool) -> Iterator[Check]:
    checks = round_robin(group(tiny) for group in GROUPS)
    return itertools.islice(checks, len(GROUPS) if tiny else None)  # a rehearsal: each op's first


def smoke(setting: Setting) -> Iterator[Task]:
    """Tiny sizes; truths on the CPU, so that under compute-sanitizer no kernels but ours cost time. In a rehearsal only
    `values` runs a check twice."""
    for check in smoke_checks():
        yield Task(check.name, lambda check=check: compared(check, setting.device, "cpu", again=not setting.rehearse))


def values(setting: Setting) -> Iterator[Task]:
    """Real sizes; truths on the device, in float64."""
    for check in value_checks(setting.small):
        yield Task(check.name, lambda check=check: compared(check, setting.device, setting.device))
