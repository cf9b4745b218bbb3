"""`siamfast track`: follow one target, or several, through a video and write boxes and an annotated video."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from siamfast.commands.model_option import add_model
from siamfast.commands.outputs import begins_with, check_output, name_of_a_part
from siamfast.tracking.course import Alone, Change, Course
from siamfast.tracking.registry import Tracker

if TYPE_CHECKING:
    from siamfast.io.frames import Frames
    from siamfast.io.images import Image
    from siamfast.io.output import TextOutput, VideoOutput
    from siamfast.tracking.multi import MultiTracker
    from siamfast.tracking.sequence_tracker import Track

HEADER, HEADER_SEVERAL = "frame,x,y,w,h,confidence,lost", "frame,id,x,y,w,h,confidence,lost"


EXAMPLE = "example:\n  siamfast track video.mp4 --box 296,150,68,80 --out tracked.mp4 --csv boxes.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast track`."""
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a video file, a folder or glob of images, a URL (rtsp://, http://), or a camera's index",
    )
    parser.add_argument(
        "--box",
        metavar="X,Y,W,H",
        action="append",
        help="the target in the first frame (default: draw it in a window); repeat it for several targets",
    )
    parser.add_argument(
        "--boxes",
        metavar="FILE",
        help="a file of several targets, each tracked from its first row on: frame,id,x,y,w,h (frames from 0), or "
        "another format of `siamfast annotate`; a row without area (0,0,0,0) ends a target until its next row",
    )
    parser.add_argument("--out", metavar="VIDEO", help="write the annotated video here (.mp4, .mkv, .mov, .avi)")
    parser.add_argument(
        "--csv",
        metavar="FILE",
        help=f"write the boxes here: {HEADER}; with --boxes or several --box {HEADER_SEVERAL} (default without --out: "
        "stdout)",
    )
    add_model(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument(
        "--live",
        action="store_true",
        help="take the newest frame at each step and drop those that came in between; a camera or stream that breaks "
        "off is opened again; a file is read at its own speed",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="with --live: end after this long without a frame (default: 30)",
    )
    parser.add_argument(
        "--no-search",
        action="store_true",
        help="search a lost target at its own place alone, and not further and further around it (mobile)",
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="show the video in a window; q ends, r lets you draw the target's box again, or that of one more target",
    )
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
        if getattr(arguments, option) and not (arguments.out or arguments.show):
            name = option.replace("_", "-")
            raise ValueError(f"--{name}: the map is shown in the video, so --out or --show is needed")
    if arguments.show:
        from siamfast.tracking.drawing import check_window

        check_window("--show")
    if arguments.timeout is not None and not (arguments.live and 0 < arguments.timeout < 1e6):
        raise ValueError(f"--timeout: got {arguments.timeout:g}, expected seconds above 0, and --live")
    if arguments.no_search and arguments.model not in (None, "mobile"):
        raise ValueError(f"--no-search: the tracker {arguments.model} never searches elsewhere")
    problems: list[str] = []
    changes = _changes(arguments, problems.append)
    several = arguments.boxes is not None or len(changes) > 1
    if several:
        _check_several(arguments)
    _check_outputs(arguments)

    from siamfast.commands.termination import clean_termination
    from siamfast.io.output import TextOutput, VideoOutput

    with contextlib.ExitStack() as stack:
        stack.enter_context(clean_termination())
        frames = stack.enter_context(_open(arguments))
        video = stack.enter_context(VideoOutput(arguments.out, frames.fps)) if arguments.out else None
        rows = stack.enter_context(TextOutput(arguments.csv)) if arguments.csv else None
        options = {"places_per_frame": 0} if arguments.no_search else {}
        if several:
            from siamfast.tracking.multi import MultiTracker

            tracker: MultiTracker | Alone = MultiTracker(arguments.weights, device=arguments.device, **options)
        else:
            tracker = Alone(Tracker(arguments.weights, model=arguments.model, device=arguments.device, **options))
        ran = _Run(frames, tracker, changes, video, rows, arguments)
        ran.course.problems += problems
        return ran.finish()


def _open(arguments: argparse.Namespace) -> Frames:
    from siamfast.io.live import LiveFrames
    from siamfast.io.video import open_frames

    if not arguments.live:
        return open_frames(arguments.input)
    timeout: float = arguments.timeout or 30.0
    answer = min(10.0, timeout / 2)  # a stream that says nothing is opened again before the time is over
    return LiveFrames(lambda: open_frames(arguments.input, answer), timeout)


def _changes(arguments: argparse.Namespace, notice: Callable[[str], object]) -> list[Change]:
    """By frames; empty when the box is to be drawn."""
    given = arguments.box or []
    if arguments.boxes is None:
        return [Change(0, number, parse_box(text)) for number, text in enumerate(given, 1)]
    if given:
        raise ValueError("--boxes: got --box as well, expected one of them")
    if not arguments.boxes:
        raise ValueError("--boxes: got an empty name")
    from siamfast.annotation.formats import read_targets

    changes = []
    for rows in read_targets(arguments.boxes, notice=notice).values():
        tracked = False
        for row in rows:
            if row.absent is tracked:
                changes.append(Change(row.frame, row.target, None if tracked else row.sides))
                tracked = not tracked
    if not changes:
        raise ValueError(f"--boxes: {arguments.boxes} has no box with an area")
    return sorted(changes, key=lambda change: (change.frame, change.target))


def _check_several(arguments: argparse.Namespace) -> None:
    if arguments.model not in (None, "mobile"):
        raise ValueError(f"--model: got {arguments.model}, expected mobile, which tracks several targets")
    for option in ("response", "show_guidance"):
        if getattr(arguments, option):
            raise ValueError(f"--{option.replace('_', '-')}: shows the map of one target, got several")


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


def _check_outputs(arguments: argparse.Namespace) -> None:
    from siamfast.io.output import is_own_video

    out, csv = arguments.out, arguments.csv
    is_csv = begins_with(f"{HEADER}\n", f"{HEADER_SEVERAL}\n")
    for option, path, is_own in (("--out", out, is_own_video), ("--csv", csv, is_csv)):
        if path is not None:
            check_output(option, path, (arguments.input, arguments.boxes), is_own)
    if out and csv and os.path.abspath(out) == os.path.abspath(csv):
        raise ValueError(f"--csv: {csv} is also --out")


class _Run:
    """One pass through the frames: tracks, writes and reports."""

    def __init__(
        self,
        frames: Frames,
        tracker: MultiTracker | Alone,
        changes: list[Change],
        video: VideoOutput | None,
        rows: TextOutput | None,
        arguments: argparse.Namespace,
    ) -> None:
        self.frames, self.tracker, self.video, self.rows = frames, tracker, video, rows
        self.with_response, self.with_guidance = arguments.response, arguments.show_guidance
        self.in_window: bool = arguments.show
        self.course = Course(tracker, changes)

    def finish(self) -> int:
        """Track and write; after Ctrl-C the outputs are complete up to that frame and kept."""
        from tqdm import tqdm

        from siamfast.tracking.drawing import select_box

        count, stopped = 0, False
        one = isinstance(self.tracker, Alone)
        write = self.rows.write if self.rows is not None else (lambda _: None) if self.video is not None else print
        try:
            with contextlib.ExitStack() as stack:
                for index, image, tracks in self.course.follow(self.frames, select_box):
                    if count == 0:
                        write(HEADER if one else HEADER_SEVERAL)
                        # Opened only now, so that an error about the box is one line without a bar above it.
                        bar = stack.enter_context(
                            tqdm(
                                total=self.frames.count, unit="frame", desc="track", file=sys.stderr, dynamic_ncols=True
                            )
                        )
                    lost = self.tracker.lost
                    for target, track in tracks.items():
                        box = ",".join(f"{v:.2f}" for v in track.box)
                        numbers = f"{box},{track.confidence:.4f},{int(target in lost)}"
                        write(f"{index},{numbers}" if one else f"{index},{target},{numbers}")
                    drawn = self._drawn(image, tracks) if self.video is not None or self.in_window else image
                    if self.video is not None:
                        self.video.write(drawn, self.frames.time)
                    count += 1
                    bar.update(index + 1 - bar.n)
                    bar.set_postfix_str(_shown(tracks), refresh=False)
                    if self.in_window and self._ended_in_window(drawn, image):
                        break
        except KeyboardInterrupt:
            if count == 0:
                raise
            stopped = True
        if count == 0:
            raise ValueError(f"{self.frames.name}: no frames in it")
        for output in (self.video, self.rows):
            if output is not None:
                output.commit(name_of_a_part(output.path) if stopped else None)
        for line in (*self.course.sizes, *self.course.problems):
            print(f"siamfast track: {line}", file=sys.stderr)
        print(self._summary(count, stopped), file=sys.stderr)
        return 130 if stopped else 1 if self.course.problems else 0

    def _ended_in_window(self, drawn: Image, image: Image) -> bool:
        """Show the frame; returns whether the user wants no more."""
        from siamfast.tracking.drawing import select_box, show_frame

        key = show_frame(drawn, title="siamfast")
        if key == "r":
            with contextlib.suppress(ValueError):  # no box was drawn: the target stays as it is
                self.course.select(image, select_box(image))
        return key == "q"

    def _drawn(self, image: Image, tracks: dict[int, Track]) -> Image:
        from siamfast.tracking.drawing import draw_several, draw_track

        if not isinstance(self.tracker, Alone):
            return draw_several(image, tracks, self.tracker.lost)
        one = self.tracker.tracker
        ((box, confidence),) = tracks.values()
        response = one.response if self.with_response else None
        guidance = one.guidance if self.with_guidance else None
        return draw_track(image, box, confidence, response, guidance, lost=bool(one.lost))

    def _summary(self, count: int, stopped: bool) -> str:
        frames, outputs = self.frames, [output for output in (self.video, self.rows) if output is not None]
        return (
            f"{count} frames, "
            + (
                ""
                if isinstance(self.tracker, Alone)
                else f"{len(self.course.targets)} target{'s' * (len(self.course.targets) != 1)}, "
            )
            + f"{self.course.speed} ({self.tracker.precision}, {self.tracker.device})"
            + (f"; lost in {self.course.lost} frames" if self.course.lost else "")
            + (f"; {frames.skipped} frames could not be decoded and were skipped" if frames.skipped else "")
            + (f"; {frames.dropped} frames were dropped to keep up" if frames.dropped else "")
            + ("; stopped early" if stopped else "")
            + (f"; {frames.trouble}" if frames.trouble else "")
            + "".join(f"; wrote {output.path}" for output in outputs)
        )


def _shown(tracks: dict[int, Track]) -> str:
    """The confidence beside the progress bar."""
    if not tracks:
        return "no target"
    least = min(track.confidence for track in tracks.values())
    return f"confidence {least:.2f}" if len(tracks) == 1 else f"{len(tracks)} targets, least confidence {least:.2f}"
