"""The configuration and trainer of each task of `siamfast train`. A new task is registered here and nowhere else."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from siamfast.training import config

if TYPE_CHECKING:
    from siamfast.training.loop import Loop


class Task(NamedTuple):
    """A task: the fields of its configuration are its flags; its trainer's module is imported when a trainer is
    made."""

    configuration: type[config.RunConfig]
    module: str
    name: str


TASKS = {
    "siamfc": Task(config.SiamFCConfig, "siamfast.training.siamfc", "SiamFCTrainer"),
    "guided": Task(config.GuidedConfig, "siamfast.training.guided", "GuidedTrainer"),
    "mobile": Task(config.MobileConfig, "siamfast.training.mobile", "MobileTrainer"),
    "correspondence": Task(config.CorrespondenceConfig, "siamfast.training.correspondence", "CorrespondenceTrainer"),
}
DEFAULT = "siamfc"


def make_trainer(task: str, configuration: Any) -> Loop:
    """The trainer of a task, for a configuration of that task."""
    entry = TASKS[task]
    trainer: Loop = getattr(importlib.import_module(entry.module), entry.name)(configuration)
    return trainer
