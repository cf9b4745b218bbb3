"""`siamfast propagate`: carry the masks of the first frame through a video, and score them where the truth is known."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siamfast.data.masks import MaskImage
    from siamfast.evaluation.masks import MaskScores
    from siamfast.tracking.propagation import MaskPropagator
    from siamfast.tracking.video import Frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast propagate`."""
    parser.add_argument("input", metavar="VIDEO", help="a video file, or a folder or glob of images")
    parser.add_argument("--mask", required=True, metavar="PNG", help="the first frame's mask: a number or colour each")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="a new or empty folder for the masks, one PNG a frame"
    )
    parser.add_argument(
        "--overlay", metavar="VIDEO", help="write the video with its masks here (.mp4, .mkv, .mov, .avi)"
    )
    parser.add_argument(
        "--score", metavar="DIR", help="true masks: print region J and boundary F as DAVIS defines them"
    )
    parser.add_argument("--weights", metavar="FILE", help="of a correspondence encoder; left out: the packaged ones")
    parser.add_argument("--preset", default="crw", help="timecycle, crw, dino, uvc or colour (default: crw)")
    parser.add_argument(
        "--size", type=int, default=480, help="the frame's shorter side as the encoder sees it (default: 480)"
    )
    parser.add_argument("--temperature", type=float, help="of the affinity; left out: the preset's")
    parser.add_argument("--topk", type=int, help="keys a cell copies from; left out: the preset's")
    parser.add_argument("--context", type=int, help="frames looked back at, beside the first; left out: the preset's")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")


def run(arguments: argparse.Namespace) -> int:
    """Propagate; 0 when done, 130 when stopped by Ctrl-C (masks written until then are kept).

    Raises:
        ValueError, OSError: bad input, in one line.
    """
    from siamfast.data.masks import read_mask
    from siamfast.tracking.command import clean_termination
    from siamfast.tracking.output import VideoOutput
    from siamfast.tracking.propagation import MaskPropagator
    from siamfast.tracking.video import open_frames

    first = read_mask(arguments.mask)
    out = Path(arguments.out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ValueError(f"--out: {out} is not a new or empty folder: nothing there is overwritten")
    if not out.parent.is_dir():
        raise ValueError(f"--out: there is no folder {out.parent}")
    truth = None if arguments.score is None else _truth_files(Path(arguments.score))
    names = ("temperature", "topk", "context")
    options = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    propagator = MaskPropagator(
        arguments.weights, device=arguments.device, size=arguments.size, preset=arguments.preset, **options
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(clean_termination())
        frames = stack.enter_context(open_frames(arguments.input))
        overlay = None
        if arguments.overlay:
            overlay = stack.enter_context(VideoOutput(arguments.overlay, frames.fps, "--overlay"))
        written, stopped = _propagate(frames, propagator, first, out, overlay)
        if overlay is not None:
            overlay.commit()
    if truth is not None:
        print(score_table(score(written, truth)))
    return 130 if stopped else 0


def _propagate(
    frames: Frames, propagator: MaskPropagator, first: MaskImage, out: Path, overlay: Any
) -> tuple[list[Path], bool]:
    """The masks written, and whether Ctrl-C ended it."""
    from tqdm import tqdm

    from siamfast.data.masks import write_mask
    from siamfast.tracking.drawing import draw_mask

    shown: list[
        tuple[int, NDArray[np.uint8]]
    ] = []  # frames that the propagator has taken, whose masks are not here yet

    def images() -> Iterator[NDArray[np.uint8]]:
        for index, image in frames:
            shown.append((index, image))
            yield image

    stems = frames.stems()
    written: list[Path] = []
    stopped = False
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        try:
            for numbers in propagator.propagate(images(), first.numbers):
                if not written:
                    out.mkdir(exist_ok=True)
                    # Only now: an error about the mask is one line, without a bar above it.
                    bar = stack.enter_context(
                        tqdm(total=frames.count, unit="frame", desc="propagate", file=sys.stderr, dynamic_ncols=True)
                    )
                index, image = shown.pop(0)
                path = out / f"{stems[index] if stems else f'{index:05d}'}.png"
                write_mask(path, numbers, first.palette)
                written.append(path)
                if overlay is not None:
                    overlay.write(draw_mask(image, numbers))
                bar.update(index + 1 - bar.n)
        except KeyboardInterrupt:
            stopped = True
            if not written:
                raise
    spent = time.perf_counter() - began
    print(
        f"{len(written)} masks in {out}, {len(written) / spent:.2f} frames/s ({propagator.device})"
        + (f"; {frames.skipped} frames could not be decoded and were skipped" if frames.skipped else "")
        + ("; stopped early" if stopped else "")
        + (f"; wrote {overlay.path}" if overlay is not None else ""),
        file=sys.stderr,
    )
    return written, stopped


def _truth_files(folder: Path) -> list[Path]:
    from siamfast.data.sequences import image_files

    if not folder.is_dir():
        raise ValueError(f"--score: {folder} is not a folder")
    found = image_files(folder)
    if len(found) < 3:
        raise ValueError(
            f"--score: {len(found)} masks in {folder}, expected 3 or more (the first and last do not count)"
        )
    return found


def score(written: list[Path], truth: list[Path]) -> dict[int, tuple[MaskScores, MaskScores]]:
    """J and F of every object of the first true mask: over the frames whose truth is known but the first and the last,
    as DAVIS does.

    Masks and truth go together by their names, or, where no name is the same, by their order.

    Raises:
        ValueError: neither names nor counts agree, or masks of different sizes.
    """
    from siamfast.data.masks import read_mask
    from siamfast.evaluation.masks import boundary_accuracy, region_similarity, statistics

    by_stem = {path.stem: path for path in written}
    pairs = [(by_stem[path.stem], path) for path in truth if path.stem in by_stem]
    if not pairs and len(written) == len(truth):
        pairs = list(zip(written, truth, strict=True))
    if len(pairs) < 3:
        raise ValueError(
            f"--score: {len(pairs)} of {len(truth)} true masks (such as {truth[0].name}) belong to one of "
            f"{len(written)} masks (such as {written[0].name}), expected 3 or more"
        )
    objects = [int(v) for v in np.unique(read_mask(pairs[0][1], "--score").numbers) if v]
    regions: dict[int, list[float]] = {v: [] for v in objects}
    boundaries: dict[int, list[float]] = {v: [] for v in objects}
    for ours, theirs in pairs[1:-1]:
        found, true = read_mask(ours).numbers, read_mask(theirs, "--score").numbers
        for v in objects:
            # One object is one object, whatever number each side gives it (0/255 beside an indexed 1).
            alone = len(objects) == 1
            regions[v].append(region_similarity(found > 0 if alone else found == v, true == v))
            boundaries[v].append(boundary_accuracy(found > 0 if alone else found == v, true == v))
    return {v: (statistics(regions[v]), statistics(boundaries[v])) for v in objects}


def score_table(scores: dict[int, tuple[MaskScores, MaskScores]]) -> str:
    """A line an object, and the means over objects, which DAVIS ranks by."""
    lines = [f"{'object':>8} {'J mean':>7} {'recall':>7} {'decay':>7} {'F mean':>7} {'recall':>7} {'decay':>7}"]
    rows = [(str(v), [*j, *f]) for v, (j, f) in scores.items()]
    means = np.mean([numbers for _, numbers in rows], 0)
    if len(rows) > 1:
        rows.append(("mean", means.tolist()))
    lines += [f"{name:>8} " + " ".join(f"{v:7.3f}" for v in numbers) for name, numbers in rows]
    return "\n".join([*lines, f"J&F mean {(means[0] + means[3]) / 2:.3f}"])
