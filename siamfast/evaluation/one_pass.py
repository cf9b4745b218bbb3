"""One-pass evaluation: every tracker on every sequence, on any engine, with resume."""

from __future__ import annotations

import hashlib
import json
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from siamfast.data.readers import list_videos, read_video
from siamfast.data.sequences import Sequence
from siamfast.engine import Engine
from siamfast.evaluation.protocols import Protocol, read_result, write_result
from siamfast.evaluation.run import Result, TracksSequences, run_tracker
from siamfast.evaluation.subsets import Subset
from siamfast.workers import LastFew

_TRACKERS_KEPT = 4  # trackers that a thread keeps in memory: sequences of several take turns, the longest first
_PATHS = ("encoder", "models")  # options of trackers that are paths


@dataclass(frozen=True)
class Entry:
    """A tracker under evaluation.

    label: its name in files and report. model: mobile, siamfc, guided, a file of weights, or opencv:KIND. options: of
    the tracker; for opencv:nanotrack "models", the folder of its files.
    """

    label: str
    model: str
    options: tuple[tuple[str, Any], ...] = field(default=())

    def make(self, device: str) -> TracksSequences:
        """Make the tracker."""
        if self.model.startswith("opencv:"):
            from siamfast.evaluation.opencv_trackers import OpenCVTracker

            return OpenCVTracker(self.model.removeprefix("opencv:"), **dict(self.options))
        from siamfast.tracking.registry import TRACKERS, Tracker

        named = self.model in TRACKERS
        return Tracker(
            None if named else self.model, model=self.model if named else None, device=device, **dict(self.options)
        )

    def signature(self) -> dict[str, Any]:
        """The settings that decide its results, with a digest of its weights, or None without weights."""
        files = self._files()
        content = b"".join(path.read_bytes() for path in files)
        digest = hashlib.sha256(content).hexdigest()[:16] if files else None
        return asdict(self) | {"options": dict(self.options), "sha256": digest}

    def absolute(self) -> Entry:
        """The same tracker with absolute paths, for a process with another working folder."""
        from siamfast.tracking.registry import TRACKERS

        named = self.model in TRACKERS or self.model.startswith("opencv:")
        model = self.model if named else str(Path(self.model).absolute())
        options = tuple(
            (name, str(Path(value).absolute()) if name in _PATHS and value is not None else value)
            for name, value in self.options
        )
        return replace(self, model=model, options=options)

    def _files(self) -> tuple[Path, ...]:
        """The files of weights; none for OpenCV's trackers without weights."""
        if self.model == "opencv:nanotrack":
            from siamfast.evaluation.opencv_trackers import find_nano_models

            return find_nano_models(dict(self.options)["models"])
        if self.model.startswith("opencv:"):
            return ()
        from siamfast.tracking.registry import TRACKERS, weight_files

        named = self.model in TRACKERS
        return weight_files(None if named else self.model, self.model if named else None, **dict(self.options))


def peer_entries(peers: str, nano_models: str | None) -> list[Entry]:
    """Entries of OpenCV's trackers.

    Args:
        peers: kinds joined by commas, e.g. "csrt,nanotrack"; `Entry.make` refuses unknown ones.
        nano_models: the folder of NanoTrack's two ONNX files.

    Raises:
        ValueError: nanotrack without its models, or models without it.

    >>> peer_entries("csrt", None)
    [Entry(label='OpenCV-CSRT', model='opencv:csrt', options=())]
    """
    from siamfast.evaluation.opencv_trackers import KINDS

    kinds = [kind for kind in peers.split(",") if kind]
    if ("nanotrack" in kinds) != (nano_models is not None):
        raise ValueError("--nano-models: --peers nanotrack and the folder of its two ONNX files go together")
    options = {"nanotrack": (("models", nano_models),)}
    return [Entry(f"OpenCV-{KINDS.get(kind, kind)}", f"opencv:{kind}", options.get(kind, ())) for kind in kinds]


def parse_entry(text: str) -> Entry:
    """Parse [LABEL=]MODEL[:option=value...], e.g. "guided", "zeroed=guided:guide=off",
    "mine=runs/mine/siamfc.safetensors".

    Raises:
        ValueError: a malformed option; a label that is not a file name.

    >>> parse_entry("zeroed=guided:guide=off")
    Entry(label='zeroed', model='guided', options=(('guide', 'off'),))
    """
    head, *settings = text.split(":")
    label, _, model = head.rpartition("=")
    options = []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise ValueError(f"model: got {text!r}, where {setting!r} is not option=value")
        try:
            options.append((name, json.loads(value)))
        except ValueError:
            options.append((name, value))
    label = label or Path(model).stem
    if not label or Path(label).name != label or label.startswith("."):
        raise ValueError(f"model: got {text!r}, where {label!r} cannot name a folder; give LABEL=MODEL")
    return Entry(label, model, tuple(options))


def read_dataset(
    protocol: Protocol, subset: Subset, frames: int | None, report: Callable[[Path, str], None]
) -> list[Sequence]:
    """The sequences that can be evaluated; others are passed to `report` with the reason.

    Raises:
        ValueError: no such data set.
    """
    usable: list[Sequence] = []
    root = subset.root
    videos = list_videos(protocol.kind, root)
    absent = sorted((subset.listed or frozenset()) - {video.name for video in videos}) if subset.name == "test" else []
    if absent:
        report(root, f"{len(absent)} of {len(subset.listed or ())} listed sequences are not there, such as {absent[0]}")
    for video in (video for video in videos if subset.has(video.name)):
        for sequence in read_video(protocol.kind, root, video, report):
            missing = [path.name for path in sequence.frames if not path.is_file()]
            if missing:
                report(video, f"{sequence.name} lacks {len(missing)} frames, such as {missing[0]}")
            elif not np.isfinite(sequence.boxes[0]).all():
                report(video, f"{sequence.name} has no box in its first frame")
            elif sequence.name in {s.name for s in usable}:
                report(video, f"{sequence.name} is there twice")
            else:
                usable.append(sequence if frames is None else sequence.first(min(frames, len(sequence))))
    return usable


class Digests(NamedTuple):
    """What another machine must read too: digests of a tracker's weights (None without weights) and of a sequence."""

    weights: str | None
    sequence: str


class Run(NamedTuple):
    """A tracker on a sequence. digests: checked where it runs; None: it runs on this machine."""

    entry: Entry
    sequence: Sequence
    device: str
    digests: Digests | None = None


# Of a thread, because a tracker has the state of one target.
_kept = LastFew[TracksSequences](_TRACKERS_KEPT)


def _tracker(run: Run) -> TracksSequences:
    """The run's tracker; made if it is not one of the last ones.

    Raises:
        ValueError, OSError: it cannot be made; its weights are not those of the command.
    """
    weights = None if run.digests is None else run.digests.weights

    def make() -> TracksSequences:
        if run.digests is not None and (there := run.entry.signature()["sha256"]) != weights:
            raise ValueError(f"weights: {run.entry.model} has digest {there}, expected {weights}")
        return run.entry.make(run.device)

    return _kept.get((run.entry, run.device, weights), make)


def run_one(run: Run) -> Result | str:
    """Track a sequence; returns the result, or the error in one line."""
    try:
        if run.digests is not None and run.sequence.digest() != run.digests.sequence:
            raise ValueError(f"{run.sequence.frames[0].parent}: frames differ from those of the command")
        return run_tracker(lambda: _tracker(run), run.sequence)
    except (ValueError, OSError, RuntimeError) as error:
        where = "" if run.digests is None else f" (on {socket.gethostname()})"
        return f"{run.entry.label}: {' '.join(str(error).split())}{where}"


def run_all(
    protocol: Protocol,
    results: Path,
    entries: list[Entry],
    sequences: list[Sequence],
    devices: list[str],
    engine: Engine,
    digests: dict[str, str],
) -> Iterator[tuple[Entry, Sequence, str | None]]:
    """Make the missing results and write them here; yields each finished run, with its error or None.

    Args:
        devices: given to the runs in turn.
        engine: runs the trackers, a sequence per task.
        digests: of the sequences, by name: other machines must have the same.

    Raises:
        RuntimeError: workers are gone; written results stay. OSError: a result cannot be written.
    """
    todo = [(e, s) for e in entries for s in sequences if read_result(protocol, results, e.label, s) is None]
    if engine.parallel:
        todo.sort(key=lambda each: -len(each[1]))  # the longest first, so that none of them is last and alone
    tasks = deque[Run]()
    weights = {entry.label: entry.signature()["sha256"] for entry in entries} if engine.remote else {}
    by_label = {entry.label: entry for entry in entries}
    for number, (entry, sequence) in enumerate(todo):
        run = Run(entry, sequence, devices[number % len(devices)])
        if engine.remote:
            run = run._replace(entry=entry.absolute(), digests=Digests(weights[entry.label], digests[sequence.name]))
        tasks.append(run)
    for run, result in engine.run(run_one, tasks):
        if isinstance(result, Result):
            write_result(protocol, results, run.entry.label, run.sequence.name, result)
        yield by_label[run.entry.label], run.sequence, result if isinstance(result, str) else None
