"""`siamfast track`: follow one target through a video and write boxes and an annotated video."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from siamfast.tracking.registry import TRACKERS, Tracker

if TYPE_CHECKING:
    from siamfast.io.frames import Frames
    from siamfast.io.images import Image
    from siamfast.io.output import TextOutput, VideoOutput
    from siamfast.tracking.sequence_tracker import SequenceTracker, Track

HEADER = "frame,x,y,w,h,confidence"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast track`."""
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a video file, a folder or glob of images, a URL (rtsp://, http://), or a camera's index",
    )
    parser.add_argument("--box", metavar="X,Y,W,H", help="the target in the first frame (default: draw it in a window)")
    parser.add_argument("--out", metavar="VIDEO", help="write the annotated video here (.mp4, .mkv, .mov, .avi)")
    parser.add_argument("--csv", metavar="FILE", help=f"write the boxes here: {HEADER} (default without --out: stdout)")
    parser.add_argument(
        "--model", choices=tuple(TRACKERS), help="default: the model of the weights, or mobile without weights"
    )
    parser.add_argument("--weights", metavar="FILE", help="a file of weights (default: the packaged ones)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument("--response", action="store_true", help="show the response map in the video")
    parser.add_argument(
        "--show-guidance", action="store_true", help="show where correspondence carried the target (guided trackers)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Track; returns 0 when done, 130 when stopped by Ctrl-C (frames tracked until then are kept).

    Raises:
        ValueError, OSError: bad input, in one line; no output file is left behind.
    """
    for option in ("response", "show_guidance"):
        if getattr(arguments, option) and not arguments.out:
            name = option.replace("_", "-")
            raise ValueError(f"--{name}: the map is shown in the video, so --out is needed")
    box = None if arguments.box is None else parse_box(arguments.box)
    _check_outputs(arguments.input, arguments.out, arguments.csv)

    from siamfast.commands.termination import clean_termination
    from siamfast.io.output import TextOutput, VideoOutput
    from siamfast.io.video import open_frames

    with contextlib.ExitStack() as stack:
        stack.enter_context(clean_termination())
        frames = stack.enter_context(open_frames(arguments.input))
        video = stack.enter_context(VideoOutput(arguments.out, frames.fps)) if arguments.out else None
        rows = stack.enter_context(TextOutput(arguments.csv)) if arguments.csv else None
        tracker = Tracker(arguments.weights, model=arguments.model, device=arguments.device)
        return _track(frames, tracker, box, video, rows, arguments.response, arguments.show_guidance)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """ "x,y,w,h" -> four floats.

    Raises:
        ValueError: anything else. The tracker checks whether the box is in the image.

    >>> parse_box("10,20,30.5,40")
    (10.0, 20.0, 30.5, 40.0)
    """
    try:
        x, y, w, h = (float(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"--box: got {text!r}, expected four numbers x,y,w,h") from None
    return x, y, w, h


def _check_outputs(source: str, out: str | None, csv: str | None) -> None:
    for option, path in (("--out", out), ("--csv", csv)):
        if path == "":
            raise ValueError(f"{option}: got an empty name")
        if path and os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise ValueError(f"{option}: {path} is the input")
    if out and csv and os.path.abspath(out) == os.path.abspath(csv):
        raise ValueError(f"--csv: {csv} is also --out")


class _Clock:
    """Seconds spent in the tracker's updates, and their number."""

    def __init__(self) -> None:
        self.seconds, self.updates = 0.0, 0

    @property
    def rate(self) -> str:
        return f"{self.updates / self.seconds:.1f} FPS in the tracker" if self.seconds > 0 else "one frame"


def _tracked(
    frames: Frames, tracker: SequenceTracker, box: tuple[float, float, float, float] | None, clock: _Clock
) -> Iterator[tuple[int, Image, Track]]:
    """Index, image and track of each frame; the first one's track is the box given or drawn by the user."""
    from siamfast.tracking.drawing import select_box
    from siamfast.tracking.sequence_tracker import Track

    for number, (index, image) in enumerate(frames):
        if number == 0:
            box = select_box(image) if box is None else box
            tracker.init(image, box)
            yield index, image, Track(box, 1.0)
            continue
        begin = time.perf_counter()
        track = tracker.update(image)
        clock.seconds += time.perf_counter() - begin
        clock.updates += 1
        yield index, image, track


def _track(
    frames: Frames,
    tracker: SequenceTracker,
    box: tuple[float, float, float, float] | None,
    video: VideoOutput | None,
    rows: TextOutput | None,
    with_response: bool,
    with_guidance: bool,
) -> int:
    """Track and write; after Ctrl-C the outputs are complete up to that frame and kept."""
    from tqdm import tqdm

    from siamfast.tracking.drawing import draw_track

    count, stopped, clock = 0, False, _Clock()
    write = rows.write if rows is not None else (lambda _: None) if video is not None else print
    try:
        with contextlib.ExitStack() as stack:
            for index, image, track in _tracked(frames, tracker, box, clock):
                if count == 0:
                    write(HEADER)
                    # Opened only now, so that an error about the box is one line without a bar above it.
                    bar = stack.enter_context(
                        tqdm(total=frames.count, unit="frame", desc="track", file=sys.stderr, dynamic_ncols=True)
                    )
                write(f"{index}," + ",".join(f"{v:.2f}" for v in track.box) + f",{track.confidence:.4f}")
                if video is not None:
                    response = tracker.response if with_response else None
                    guidance = tracker.guidance if with_guidance else None
                    video.write(draw_track(image, *track, response, guidance), frames.time)
                count += 1
                bar.update(index + 1 - bar.n)
                bar.set_postfix_str(f"confidence {track.confidence:.2f}", refresh=False)
    except KeyboardInterrupt:
        if count == 0:
            raise
        stopped = True
    if count == 0:
        raise ValueError(f"{frames.name}: no frames in it")
    outputs = [output for output in (video, rows) if output is not None]
    for output in outputs:
        output.commit()
    print(
        f"{count} frames, {clock.rate} ({tracker.precision}, {tracker.device})"
        + (f"; {frames.skipped} frames could not be decoded and were skipped" if frames.skipped else "")
        + ("; stopped early" if stopped else "")
        + (f"; {frames.trouble}" if frames.trouble else "")
        + "".join(f"; wrote {output.path}" for output in outputs),
        file=sys.stderr,
    )
    return 130 if stopped else 0
