"""One-pass evaluation: every tracker on every sequence, in this process or in several, with resume."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from siamfast.data.readers import list_videos, read_video
from siamfast.data.sequences import Sequence
from siamfast.evaluation.protocols import Protocol, read_result, write_result
from siamfast.evaluation.run import TracksSequences, run_tracker
from siamfast.evaluation.subsets import Subset
from siamfast.workers import begin_worker


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


@functools.lru_cache(maxsize=2)
def _tracker(entry: Entry, device: str) -> TracksSequences:
    """A tracker, cached for the next sequence."""
    return entry.make(device)


def run_one(protocol: Protocol, results: Path, entry: Entry, sequence: Sequence, device: str) -> str | None:
    """Track a sequence and write its result; returns the error, or None."""
    try:
        result = run_tracker(lambda: _tracker(entry, device), sequence)
    except (ValueError, OSError, RuntimeError) as error:
        return f"{entry.label}: {' '.join(str(error).split())}"
    write_result(protocol, results, entry.label, sequence.name, result)
    return None


def run_all(
    protocol: Protocol, results: Path, entries: list[Entry], sequences: list[Sequence], devices: list[str], workers: int
) -> Iterator[tuple[Entry, Sequence, str | None]]:
    """Make the missing results; yields each finished run, with its error or None.

    Args:
        devices: given to the workers in turn.
        workers: number of processes; 0: this one only.

    Raises:
        RuntimeError: a worker died; written results stay.
    """
    todo = [(e, s) for e in entries for s in sequences if read_result(protocol, results, e.label, s) is None]
    if workers == 0:
        for entry, sequence in todo:
            yield entry, sequence, run_one(protocol, results, entry, sequence, devices[0])
        return
    running: dict[Future[str | None], tuple[Entry, Sequence]] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin_worker) as pool:
        try:
            for number, (entry, sequence) in enumerate(todo):
                device = devices[number % len(devices)]
                running[pool.submit(run_one, protocol, results, entry, sequence, device)] = entry, sequence
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    entry, sequence = running.pop(future)
                    yield entry, sequence, future.result()
        except BrokenProcessPool:
            raise RuntimeError("a worker process died (out of memory?); run the command again to go on") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
