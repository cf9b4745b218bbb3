"""What curation and evaluation take on many machines: rates measured here, and estimates made of them on paper.

    python -m benchmarks.scale            # measures, writes benchmarks/results/scale.json
    python -m benchmarks.tables           # docs/scale.md's tables

Rates are per second of one core's CPU time, which other work on the machine hardly changes, on frames of 1280 x 720
that are written first.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

RESULT = Path(__file__).parent / "results" / "scale.json"
SIZE, FRAMES, ROUNDS = (720, 1280), 64, 7  # a part of curation has 64 frames
TARGETS = {"vid": 2, "got10k": 1}  # in a frame
TASKS, PARTS = 10_000, 200  # empty ones; parts that the command takes from workers
CORES = (1, 16, 256)
SERVER = 1e9  # bytes per second of the file server, assumed


class Work(NamedTuple):
    """A data set as its authors describe it. gigabytes: of its frames. longest: frames of its longest video, where a
    video is one task; 0: tasks are parts of 64 frames."""

    name: str
    kind: str
    videos: int
    frames: int
    gigabytes: float
    longest: int = 0


WORKS = (
    Work("curating ImageNet VID", "vid", 4_417, 1_300_000, 86),
    Work("curating GOT-10k", "got10k", 10_000, 1_400_000, 66),
    Work("evaluating on LaSOT's test set", "eval", 280, 685_360, 44, longest=9_999),
)


# ----------------------------------------------------------------------------------------------------------- measuring
def dataset(root: Path, kind: str) -> int:
    """Write a video of FRAMES frames, JPEGs of quality 90, in a layout; returns the bytes of the frames."""
    import cv2
    import numpy as np

    from benchmarks.bench_curation import _OBJECT, VIDEO
    from siamfast.data.synthetic import SyntheticVideo

    frames = root / "Data" / "VID" / VIDEO if kind == "vid" else root / "a"
    annotations = root / "Annotations" / "VID" / VIDEO if kind == "vid" else root / "a"
    for folder in (frames, annotations):
        folder.mkdir(parents=True, exist_ok=True)
    boxes, written = [], 0
    for t, (frame, box) in enumerate(SyntheticVideo(11, length=FRAMES, size=SIZE)):
        path = frames / (f"{t:06d}.JPEG" if kind == "vid" else f"{t + 1:08d}.jpg")
        cv2.imwrite(str(path), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        written += path.stat().st_size
        boxes.append(box)
        if kind == "vid":
            objects = []
            for n in range(TARGETS["vid"]):
                x, y, w, h = box + np.array([n * SIZE[1] / 4, n * SIZE[0] / 5, 0, 0])
                x, y = x % (SIZE[1] - w), y % (SIZE[0] - h)
                objects.append(_OBJECT.format(n, round(x + w - 1), round(x), round(y + h - 1), round(y)))
            (annotations / f"{t:06d}.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    if kind != "vid":
        np.savetxt(root / "a" / "groundtruth.txt", boxes, fmt="%.3f", delimiter=",")
    return written


def _seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of a call: the median of several rounds, after one that does not count."""
    times = []
    for _ in range(ROUNDS + 1):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return statistics.median(times[1:])


@cache
def _made_part(kind: str, root: Path) -> Any:
    from siamfast.data.curation import Recipe, curate_part
    from siamfast.data.readers import list_videos

    return curate_part(Recipe(kind), root, list_videos(kind, root)[0], 0)


def _part_again(kind: str, root: Path, number: int) -> Any:
    """A part as of another video, without making it anew."""
    return _made_part(kind, root)._replace(video=f"video-{number}")


def curation(kind: str, root: Path, engine: Any) -> dict[str, float]:
    """Frames per second of one core, bytes per frame, and frames per second that the command can take and write; it and
    dask's scheduler are one process here."""
    from siamfast.data.curation import Recipe, curate_part
    from siamfast.data.readers import list_videos
    from siamfast.data.tree import make_writer

    read = dataset(root, kind)
    (video,) = list_videos(kind, root)
    made = _seconds(lambda: curate_part(Recipe(kind), root, video, 0))
    part = _made_part(kind, root)
    with tempfile.TemporaryDirectory() as out:
        writer = make_writer("lmdb", Path(out), Recipe(kind))
        list(engine.run(partial(_part_again, kind, root), deque(range(4))))  # workers have it then
        waited, began = [], time.process_time()
        for _, result in engine.run(partial(_part_again, kind, root), deque(range(PARTS))):
            start, busy = time.perf_counter(), time.thread_time()
            writer.add(result)
            waited.append(time.perf_counter() - start - (time.thread_time() - busy))  # for the disk
        taken = time.process_time() - began + PARTS * statistics.median(waited)
        writer.close()
    return {
        "targets": TARGETS[kind],
        "frames_per_second": round(FRAMES / made, 1),
        "read_kb": round(read / FRAMES / 1e3, 1),
        "written_kb": round(sum(len(c.exemplar) + len(c.instance) for c in part.crops) / FRAMES / 1e3, 1),
        "taken_frames_per_second": round(PARTS * FRAMES / taken),
    }


def evaluation(root: Path) -> dict[str, float]:
    """Milliseconds that the default tracker takes to read a frame and to update, on one core."""
    import siamfast
    from siamfast.data.readers import read_videos
    from siamfast.io.images import read_image

    ((sequence, *_), *_) = read_videos("got10k", root)
    tracker = siamfast.Tracker()
    read = _seconds(lambda: [read_image(path) for path in sequence.frames])
    both = _seconds(lambda: tracker.track(sequence.frames, sequence.boxes[0]))
    return {"update_ms": round(1e3 * (both - read) / FRAMES, 2), "read_ms": round(1e3 * read / FRAMES, 2)}


def measure() -> dict[str, Any]:
    from benchmarks import harness
    from siamfast.engine import open_engine
    from siamfast.workers import single_thread

    single_thread()
    with tempfile.TemporaryDirectory() as folder, open_engine("dask", workers=2) as engine:
        began = time.process_time()
        for _ in engine.run(abs, deque(range(TASKS))):
            pass
        task = (time.process_time() - began) / TASKS
        rows: dict[str, Any] = {kind: curation(kind, Path(folder) / kind, engine) for kind in TARGETS}
        rows["eval"] = evaluation(Path(folder) / "got10k")
    return harness.about("cpu") | rows | {"task_ms": round(1e3 * task, 3)}


# ---------------------------------------------------------------------------------------------------------- estimating
def limits(work: Work, rates: dict[str, Any], cores: int) -> dict[str, float]:
    """Seconds that each part of the machinery needs at least; together they take as long as the slowest."""
    if work.kind == "eval":
        frame = (rates["eval"]["update_ms"] + rates["eval"]["read_ms"]) / 1e3
        tasks, taken = work.videos, 0.0
    else:
        frame = 1 / rates[work.kind]["frames_per_second"]
        tasks, taken = work.frames // FRAMES + work.videos, work.frames / rates[work.kind]["taken_frames_per_second"]
    return {
        "cores": work.frames * frame / cores,
        "the command, which takes and writes the results": taken,
        "the file server": work.gigabytes * 1e9 / SERVER,
        "the scheduler": tasks * rates["task_ms"] / 1e3,
        "the longest video": work.longest * frame,
    }


def duration(seconds: float) -> str:
    """
    >>> duration(90), duration(400), duration(5400)
    ('90 s', '7 min', '1.5 h')
    """
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def estimate(work: Work, rates: dict[str, Any], cores: int) -> float:
    """Seconds that a data set takes."""
    return max(limits(work, rates, cores).values())


def tables(rates: dict[str, Any]) -> str:
    """docs/scale.md's tables: the measured rates, and the estimates."""
    lines = [
        "| measured | one core makes | read per frame | written per frame | the command takes |",
        "|---|---|---|---|---|",
    ]
    for kind, name in (("vid", "curation, VID"), ("got10k", "curation, GOT-10k")):
        row = rates[kind]
        cells = (
            f"{name}, targets per frame: {row['targets']}",
            f"{row['frames_per_second']:.0f} frames/s",
            f"{row['read_kb']:.0f} kB",
            f"{row['written_kb']:.0f} kB",
            f"{row['taken_frames_per_second']} frames/s",
        )
        lines.append(f"| {' | '.join(cells)} |")
    row = rates["eval"]
    tracker = f"evaluation, default tracker: {row['update_ms']} ms per update, {row['read_ms']} ms to read"
    lines.append(f"| {tracker} | {1e3 / (row['update_ms'] + row['read_ms']):.0f} frames/s | | | |")
    overhead = f"{rates['task_ms']} ms per empty task ({TASKS:,} tasks, 2 workers)"
    origin = f"{rates['device']}, {rates['date']}"
    lines += ["", f"Dask's scheduler and the command spend {overhead}. {origin}.", ""]
    head = " | ".join(f"{cores} core{'s' * (cores > 1)}" for cores in CORES)
    lines += [f"| estimate | {head} | more cores help up to | limited by |", "|" + "---|" * (len(CORES) + 3)]
    for work in WORKS:
        spent = [duration(estimate(work, rates, cores)) for cores in CORES]
        alone = limits(work, rates, 1)
        whole = alone.pop("cores")
        slowest = max(alone, key=lambda name: alone[name])
        most = f"{whole / alone[slowest]:.0f} | {slowest}, {duration(alone[slowest])}"
        lines.append(f"| {work.name} | {' | '.join(spent)} | {most} |")
    return "\n".join(lines)


def main() -> int:
    from siamfast.io.files import replacing

    rates = measure()
    with replacing(RESULT) as temporary:
        temporary.write_text(json.dumps(rates, indent=1) + "\n")
    print(tables(rates))
    return 0


if __name__ == "__main__":
    sys.exit(main())
