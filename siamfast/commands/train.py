"""`siamfast train`."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Callable
from typing import Any, Literal

from siamfast.training.config import RENAMED_FIELDS, RENAMED_VALUES, RunConfig
from siamfast.training.registry import DEFAULT, TASKS, make_trainer

EXAMPLE = """\
examples:
  siamfast train --out runs/mine                                   SiamFC on synthetic video
  siamfast train --out runs/mine --data curated/                   on a store of `siamfast curate`
  siamfast train --task mobile --init mobile --out runs/mobile     the default tracker, from its packaged weights
  siamfast train --task guided --init siamfc --out runs/guided
  siamfast train --task correspondence --data videos/ --out runs/encoder

The same command resumes a run that was stopped. Flags of one task are in its own group below.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag per field of any task's configuration, named, typed and explained by the dataclasses."""
    parser.epilog = None  # above the flags, of which there are a hundred
    parser.usage = "%(prog)s [--task TASK] [--out FOLDER] [options]"
    parser.description = f"{parser.description}\n\n{EXAMPLE}"
    parser.add_argument("--task", choices=tuple(TASKS), default=DEFAULT, help="what to train (default: %(default)s)")
    entries: dict[str, list[tuple[str, dataclasses.Field[Any], Any]]] = {}
    for task, (kind, *_) in TASKS.items():
        hints = typing.get_type_hints(kind)
        for entry in dataclasses.fields(kind):
            entries.setdefault(entry.name, []).append((task, entry, hints[entry.name]))
    groups = {
        tasks: parser.add_argument_group(" and ".join(tasks) if len(tasks) < len(TASKS) else "every task")
        for tasks in sorted({tuple(task for task, *_ in owners) for owners in entries.values()}, key=len, reverse=True)
    }
    for name, owners in entries.items():
        _, entry, hint = owners[0]
        group = groups[tuple(task for task, *_ in owners)]
        defaults = {repr(owner.default) for _, owner, _ in owners}
        distinct = owners[:1] if len(defaults) == 1 else owners
        default_text = "; ".join(
            (f"{task} " if len(distinct) > 1 else "") + repr(owner.default) for task, owner, _ in distinct
        )
        text = f"{entry.metadata['help']} (default: {default_text})".replace("%", "%%")
        flags = [f"--{name.replace('_', '-')}"]
        flags += [f"--{old.replace('_', '-')}" for old, new in RENAMED_FIELDS.items() if new == name]
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text}
        if hint is bool:
            group.add_argument(*flags, dest=name, action=argparse.BooleanOptionalAction, **options)
        elif typing.get_origin(hint) is Literal:
            group.add_argument(*flags, choices=typing.get_args(hint), type=_new_value(name), dest=name, **options)
        else:
            group.add_argument(*flags, type=hint, dest=name, **options)


def _new_value(name: str) -> Callable[[str], str]:
    """A function from a flag's value to the current name of that value."""
    return lambda value: RENAMED_VALUES.get(name, {}).get(value, value)


def run(arguments: argparse.Namespace) -> int:
    """Train; a run that exists in its folder already is resumed.

    Raises:
        ValueError, OSError: bad input, in one line.
    """
    try:
        trainer = make_trainer(arguments.task, configuration(arguments))
        figures = trainer.run()
    except (ValueError, OSError) as error:
        from siamfast.training.ranks import of_process

        if not of_process():
            raise
        raise ValueError(f"{error}{of_process()}") from error
    if trainer.ranks.first:
        weights = trainer.out / trainer.file
        print(f"{weights}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
        if arguments.task == "mobile":
            print(f"`siamfast export {weights}` makes its graphs for onnxruntime, two to three times as fast on a CPU")
    return 0


def configuration(arguments: argparse.Namespace) -> RunConfig:
    """The configuration that parsed flags describe.

    Raises:
        ValueError: a flag of another task, or a value out of range.
    """
    kind = TASKS[arguments.task].configuration
    fields = {entry.name for task in TASKS.values() for entry in dataclasses.fields(task.configuration)}
    values = {name: value for name, value in vars(arguments).items() if name in fields}
    foreign = values.keys() - {entry.name for entry in dataclasses.fields(kind)}
    if foreign:
        flags = ", ".join("--" + name.replace("_", "-") for name in sorted(foreign))
        raise ValueError(f"{flags}: not an option of --task {arguments.task}")
    return kind(**values)
