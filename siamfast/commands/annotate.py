"""`siamfast annotate`: boxes in all frames of a video from boxes in some."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from siamfast.annotation.formats import FORMATS, format_of, read_targets, write_boxes
from siamfast.annotation.own import is_own_boxes
from siamfast.annotation.review import BEGINNING
from siamfast.commands.model_option import add_model
from siamfast.commands.outputs import begins_with, check_output, name_of_a_part
from siamfast.tracking.registry import Tracker

if TYPE_CHECKING:
    from siamfast.annotation.between import Annotator
    from siamfast.annotation.boxes import Box, Clip
    from siamfast.annotation.review import Review
    from siamfast.io.frames import Frames

EXAMPLE = """example:
  boxes.csv, with a box every fifty frames or so (frames from 0, pixels):
    frame,id,x,y,w,h
    0,1,296,150,68,80
    50,1,310,148,66,78
  siamfast annotate video.mp4 --keyframes boxes.csv --out all.csv --review review.html
formats, by --format or a file's ending:
  csv (.csv), jsonl (.jsonl), mot (.txt), coco (.json), cvat (.xml), got10k (a folder); see docs/annotate.md
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast annotate`."""
    parser.add_argument("input", metavar="VIDEO", help="a video file, or a folder or glob of images")
    parser.add_argument(
        "--keyframes", required=True, metavar="FILE", help="boxes in some frames: frame,id,x,y,w,h, or another format"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="write the boxes of all frames here")
    parser.add_argument("--format", choices=tuple(FORMATS), help="format of --out (default: by its ending)")
    parser.add_argument(
        "--keyframes-format", choices=tuple(FORMATS), help="format of --keyframes (default: by its ending)"
    )
    parser.add_argument("--review", metavar="HTML", help="write a page of the frames that a person should look at here")
    parser.add_argument(
        "--review-below",
        type=float,
        default=0.5,
        metavar="CONFIDENCE",
        help="confidence below which a frame is to be looked at: directions disagree, or are unsure (default: 0.5)",
    )
    parser.add_argument(
        "--extend", action="store_true", help="also track before a target's first key frame and after its last"
    )
    add_model(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")


def run(arguments: argparse.Namespace) -> int:
    """Annotate; returns 0 when done, 1 when some key frames could not be used, 130 when stopped by Ctrl-C (what was
    complete until then is kept).

    Raises:
        ValueError, OSError: bad input, in one line; no output file is left behind.
    """
    from tqdm import tqdm

    from siamfast.annotation.between import Annotator
    from siamfast.annotation.review import Review
    from siamfast.commands.termination import clean_termination
    from siamfast.io.video import open_frames

    if not 0 <= arguments.review_below <= 1:
        raise ValueError(f"--review-below: got {arguments.review_below}, expected 0 to 1")
    _check_outputs(arguments)
    if not arguments.keyframes:
        raise ValueError("--keyframes: got an empty name")
    notices: list[str] = []

    def notice(line: str) -> None:
        notices.append(line)
        tqdm.write(f"siamfast annotate: {line}", file=sys.stderr)

    keys = read_targets(arguments.keyframes, arguments.keyframes_format, notice=notice)
    with contextlib.ExitStack() as stack:
        stack.enter_context(clean_termination())
        frames = stack.enter_context(open_frames(arguments.input))
        annotator = Annotator(
            keys,
            lambda: Tracker(arguments.weights, model=arguments.model, device=arguments.device),
            extend=arguments.extend,
            notice=notice,
        )
        review = Review(arguments.review_below, pictures=arguments.review is not None)
        records, clip, stopped = _annotate(frames, annotator, review)
        if all(box.absent for box in records.values()):
            raise ValueError(f"{arguments.keyframes}: no key frame of it can be used with {arguments.input}")
        out, page = (name_of_a_part(path) if path and stopped else path for path in (arguments.out, arguments.review))
        write_boxes(out, records.values(), clip, arguments.format)
        if page:
            review.write(page, f"{clip.name}: frames to look at")
    boxes = sum(not box.absent for box in records.values())
    count = len({target for target, _ in records})
    print(
        f"{boxes} boxes of {count} target{'s' if count > 1 else ''} in {clip.length} frames, from "
        f"{sum(map(len, keys.values()))} key frames; {review.frames} frames at {review.places} places to look at"
        + (f"; {frames.skipped} frames could not be decoded and have no boxes" if frames.skipped else "")
        + ("; stopped early" if stopped else "")
        + (f"; {frames.trouble}" if frames.trouble else "")
        + "".join(f"; wrote {path}" for path in (out, page) if path),
        file=sys.stderr,
    )
    return 130 if stopped else 1 if notices else 0


def _check_outputs(arguments: argparse.Namespace) -> None:
    kind = format_of(arguments.out, arguments.format)
    is_own = {"--out": lambda path: is_own_boxes(path, arguments.format), "--review": begins_with(BEGINNING)}
    for option, path in (("--out", arguments.out), ("--review", arguments.review)):
        if path is None:
            continue
        folder = os.path.dirname(os.path.abspath(path))
        check_output(option, path, (arguments.input, arguments.keyframes), is_own[option])
        if not os.path.isdir(folder):
            raise ValueError(f"{option}: there is no folder {folder}")
        if not os.access(folder, os.W_OK):
            raise ValueError(f"{option}: cannot write {path}: no permission in {folder}")
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise ValueError(
                f"{option}: {path} is a device or a pipe, which a file would replace; expected a file name"
            )
    out = arguments.out
    if kind.suffix:
        if os.path.isdir(out):
            raise ValueError(f"--out: {out} is a folder, expected a file name")
    elif os.path.exists(out) and not (os.path.isdir(out) and not os.listdir(out)):
        raise ValueError(f"--out: {out} is not a new or empty folder: nothing there is overwritten")
    if arguments.review is not None:
        if os.path.isdir(arguments.review):
            raise ValueError(f"--review: {arguments.review} is a folder, expected a file name")
        if os.path.abspath(arguments.out) == os.path.abspath(arguments.review):
            raise ValueError(f"--review: {arguments.review} is also --out")


def _annotate(frames: Frames, annotator: Annotator, review: Review) -> tuple[dict[tuple[int, int], Box], Clip, bool]:
    """Boxes by target and frame, the clip, and whether Ctrl-C stopped the work; what was complete then is kept."""
    from tqdm import tqdm

    from siamfast.annotation.boxes import Clip
    from siamfast.io.kept_frames import KeptFrames

    records: dict[tuple[int, int], Box] = {}
    size, length, stopped = (0, 0), 0, False

    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(KeptFrames(frames))
        bar = stack.enter_context(
            tqdm(total=frames.count, unit="frame", desc="annotate", file=sys.stderr, dynamic_ncols=True)
        )

        def progress(index: int, doing: str) -> None:
            nonlocal length
            length = max(length, index + 1)
            bar.set_postfix_str(doing, refresh=False)
            bar.update(index + 1 - bar.n)

        try:
            for stretch in annotator.run(frames, kept, progress):
                records |= {(box.target, box.frame): box for box in stretch.records()}
                review.add(stretch, kept)
        except KeyboardInterrupt:
            if not records:
                raise
            stopped = True
        size = kept.size
    length = max(length, *(frame + 1 for _, frame in records)) if records else length
    name = os.path.basename(os.path.normpath(frames.name))
    paths = [frames.path(index) for index in range(length)]
    return records, Clip(name, *size, length, [path.name for path in paths if path is not None]), stopped
