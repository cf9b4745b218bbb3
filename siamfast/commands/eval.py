"""`siamfast eval`: one-pass evaluation of trackers on a data set, with a report; a stopped run resumes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamfast.commands.engine_options import add_engine_arguments, check_engine_arguments
from siamfast.engine import open_engine
from siamfast.evaluation.protocols import PROTOCOLS
from siamfast.evaluation.subsets import NAMES, choose_subset
from siamfast.io.files import only_writer, replacing
from siamfast.tracking.registry import DEFAULT
from siamfast.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from siamfast.data.sequences import Sequence
    from siamfast.evaluation.one_pass import Entry
    from siamfast.evaluation.summary import Summary


EXAMPLE = "example:\n  siamfast eval OTB100/ --dataset otb --model mobile --model siamfc --peers csrt,kcf"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast eval`."""
    parser.add_argument("root", metavar="ROOT", help="folder of the data set")
    parser.add_argument("--dataset", choices=tuple(PROTOCOLS), required=True, help="its layout and its scoring")
    parser.add_argument(
        "--model",
        action="append",
        metavar="[LABEL=]MODEL[:option=value]",
        help="mobile, siamfc, guided, or a file of weights; may be given several times (default: mobile)",
    )
    parser.add_argument(
        "--peers", default="", help="OpenCV's trackers to compare with: csrt, kcf, mil, nanotrack, joined by commas"
    )
    parser.add_argument("--nano-models", metavar="DIR", help="folder of nanotrack's two ONNX files")
    parser.add_argument("--out", default="siamfast-eval", help="folder of results and report (default: siamfast-eval)")
    parser.add_argument(
        "--subset",
        choices=NAMES,
        help="subset of GOT-10k (default: val), or of LaSOT with testing_set.txt (default: test)",
    )
    parser.add_argument("--frames", type=int, help="only the first frames of each sequence")
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda:0, ...; several, joined by commas, are given to workers in turn",
    )
    add_engine_arguments(parser, default=0)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; returns 0 when all was evaluated, 1 when some was not (it is listed), 130 after Ctrl-C.

    Raises:
        ValueError, OSError: bad input, in one line.
    """
    from siamfast.evaluation.identity import claim_results
    from siamfast.evaluation.one_pass import read_dataset, run_all
    from siamfast.evaluation.summary import summarize

    check_engine_arguments(arguments)
    if arguments.frames is not None and arguments.frames < 2:
        raise ValueError(f"--frames: got {arguments.frames}, expected 2 or more")
    protocol, root, out = PROTOCOLS[arguments.dataset], Path(arguments.root).absolute(), Path(arguments.out)
    devices = arguments.device.split(",")
    entries = _entries(arguments, devices[0])
    errors: list[tuple[str, str]] = []

    def note(path: Path, reason: str) -> None:
        errors.append((path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name, reason))

    subset = choose_subset(arguments.dataset, root, arguments.subset)
    root = subset.root
    sequences = read_dataset(protocol, subset, arguments.frames, note)
    if not sequences:
        raise ValueError(f"ROOT: no sequence in {root} can be evaluated; the first: {': '.join(errors[0])}")
    results = out / "results"
    with (
        open_engine(arguments.engine, workers=arguments.workers, scheduler=arguments.scheduler) as engine,
        only_writer(out, "eval"),
    ):
        digests = claim_results(protocol, out, root, arguments.frames, entries, sequences)
        machines = engine.everywhere(_machine)
        runs = run_all(protocol, results, entries, sequences, devices, engine, digests)
        stopped = _evaluate(runs, len(entries) * len(sequences), errors)
    summaries = [summarize(protocol, results, entry, sequences) for entry in entries]
    about = {
        "dataset": arguments.dataset,
        "folder": root.resolve().name,
        "subset": subset.name,
        "sequences": len(sequences),
        "frames": arguments.frames or "all",
    } | {name: _common([machine[name] for machine in machines]) for name in machines[0]}
    _write(out, about, summaries, errors)
    _print(summaries, errors)
    print(f"{out / 'report.html'}, {out / 'summary.json'}; results in {results / protocol.folder}")
    return 130 if stopped else 1 if errors else 0


def _entries(arguments: argparse.Namespace, device: str) -> list[Entry]:
    """The trackers that the options name, each made once, so that errors show at the start."""
    from siamfast.evaluation.one_pass import parse_entry, peer_entries

    entries = [parse_entry(text) for text in arguments.model or [DEFAULT]]
    entries += peer_entries(arguments.peers, arguments.nano_models)
    labels = [entry.label for entry in entries]
    if len(set(labels)) < len(labels):
        raise ValueError(f"--model: {', '.join(labels)}: two have the same label; give LABEL=MODEL")
    for entry in entries:
        try:
            entry.make(device)
        except TypeError as error:
            raise ValueError(f"--model: {error}") from error
    return entries


def _evaluate(runs: Iterable[tuple[Entry, Sequence, str | None]], total: int, errors: list[tuple[str, str]]) -> bool:
    """Do the runs with a progress bar and append to `errors`; returns whether Ctrl-C stopped it."""
    from tqdm import tqdm

    with tqdm(total=total, unit="run", desc="eval", file=sys.stderr, dynamic_ncols=True) as bar:
        try:
            for entry, sequence, wrong in runs:
                bar.update(1)
                bar.set_postfix_str(f"{entry.label} {sequence.name}", refresh=False)
                if wrong is not None:
                    errors.append((sequence.name, wrong))
        except KeyboardInterrupt:
            return True
        except RuntimeError as error:
            raise ValueError(str(error)) from error
    return False


def _machine() -> dict[str, Any]:
    import torch

    from siamfast.machine import cpu_name

    return {
        "siamfast": __version__, "torch": torch.__version__, "threads": torch.get_num_threads(),
        "cpu": cpu_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }  # fmt: skip


def _common(values: list[Any]) -> Any:
    """The value, or all that differ, joined."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else ", ".join(map(str, different))


def _write(out: Path, about: dict[str, Any], summaries: list[Summary], errors: list[tuple[str, str]]) -> None:
    from siamfast.evaluation.report import report

    content: dict[str, Any] = {"about": about, "trackers": {s.label: s.as_json() for s in summaries}, "errors": errors}
    texts = {
        "summary.json": json.dumps(content, indent=1) + "\n",
        "report.html": report(
            f"siamfast: evaluation on {about['folder']} ({about['dataset']})", about, summaries, errors
        ),
    }
    for name, text in texts.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _print(summaries: list[Summary], errors: list[tuple[str, str]]) -> None:
    from siamfast.evaluation.summary import COLUMNS, LONG_TERM

    wide = max(len(s.label) for s in summaries)
    print(f"{'':{wide}}  " + "".join(f"{name.replace('_precision', '_prec'):>16}" for name in COLUMNS))
    for s in summaries:
        print(f"{s.label:{wide}}  " + "".join(f"{s.figures[name]:16.{1 if name == 'fps' else 3}f}" for name in COLUMNS))
    figures = [(s.label, s.long_term) for s in summaries if s.long_term is not None]
    if figures:
        print(f"{'long term':{wide}}  " + "".join(f"{name:>16}" for name in LONG_TERM))
        for label, long_term in figures:
            values = (getattr(long_term, name) for name in LONG_TERM)
            print(f"{label:{wide}}  " + "".join(f"{v:16}" if isinstance(v, int) else f"{v:16.3f}" for v in values))
    for name, reason in errors:
        print(f"not evaluated: {name}: {reason}", file=sys.stderr)
