"""`siamfast propagate`: carry the masks of the first frame through a video, and score them against true masks."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from siamfast.commands.outputs import check_output

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siamfast.io.frames import Frames
    from siamfast.io.masks import MaskImage
    from siamfast.tracking.propagation import MaskPropagator


EXAMPLE = "example:\n  siamfast propagate frames/ --mask first.png --out masks/ --overlay masks.mp4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast propagate`."""
    parser.add_argument("input", metavar="VIDEO", help="a video file, or a folder or glob of images")
    parser.add_argument(
        "--mask",
        required=True,
        metavar="PNG",
        help="the first frame's mask, one number or colour per object; with the name of a later frame, start there",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="a new or empty folder for the masks, one PNG per frame"
    )
    parser.add_argument(
        "--overlay", metavar="VIDEO", help="write the video with its masks here (.mp4, .mkv, .mov, .avi)"
    )
    parser.add_argument(
        "--score", metavar="DIR", help="true masks: print region J and boundary F as DAVIS defines them"
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="weights of a correspondence encoder (default: the packaged ones)"
    )
    parser.add_argument("--preset", default="crw", help="timecycle, crw, dino, uvc or color (default: crw)")
    parser.add_argument(
        "--size", type=int, default=480, help="shorter side of the encoder's input, pixels (default: 480)"
    )
    parser.add_argument("--temperature", type=float, help="temperature of the affinity (default: the preset's)")
    parser.add_argument("--topk", type=int, help="keys that a cell copies from (default: the preset's)")
    parser.add_argument("--context", type=int, help="previous frames to use, beside the first (default: the preset's)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")


def run(arguments: argparse.Namespace) -> int:
    """Propagate; returns 0 when done, 130 when stopped by Ctrl-C (masks written until then are kept).

    Raises:
        ValueError, OSError: bad input, in one line.
    """
    from siamfast.commands.termination import clean_termination
    from siamfast.evaluation.masks import score_masks, score_table
    from siamfast.io.listing import entries
    from siamfast.io.masks import read_mask
    from siamfast.io.output import VideoOutput, is_own_video
    from siamfast.io.video import open_frames
    from siamfast.tracking.propagation import MaskPropagator

    first = read_mask(arguments.mask)
    out = Path(arguments.out)
    if out.is_file() or (out.is_dir() and bool(entries(out))):
        raise ValueError(f"--out: {out} is not a new or empty folder: nothing there is overwritten")
    if not out.parent.is_dir():
        raise ValueError(f"--out: there is no folder {out.parent}")
    truth = None if arguments.score is None else _truth_files(Path(arguments.score))
    names = ("temperature", "topk", "context")
    options = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    propagator = MaskPropagator(
        arguments.weights, device=arguments.device, size=arguments.size, preset=arguments.preset, **options
    )
    if arguments.overlay:
        check_output("--overlay", arguments.overlay, (arguments.input, arguments.mask, arguments.score), is_own_video)
    with contextlib.ExitStack() as stack:
        stack.enter_context(clean_termination())
        frames = stack.enter_context(open_frames(arguments.input))
        frames.start = frame_of(arguments.mask, frames.stems())
        if truth is not None:
            _check_truth(frames, first, truth)
        overlay = None
        if arguments.overlay:
            overlay = stack.enter_context(VideoOutput(arguments.overlay, frames.fps, "--overlay"))
        written, stopped = _propagate(frames, propagator, first, out, overlay)
        if overlay is not None:
            overlay.commit()
    if truth is not None:
        print(score_table(score_masks(written, truth)))
    return 130 if stopped else 0


def _check_truth(frames: Frames, first: MaskImage, truth: list[Path]) -> None:
    """Refuse masks that could not be scored, before any work is done."""
    from siamfast.evaluation.masks import pair_masks, shared_objects

    stems = frames.stems() or [f"{n:05d}" for n in range(frames.count or 0)]
    if stems:
        pairs = pair_masks([Path(f"{stem}.png") for stem in stems[frames.start :]], truth)
        shared_objects(first, pairs[0][1])


def frame_of(mask: str, stems: list[str]) -> int:
    """The index of the frame with a mask's name, or with its number; else of the first frame.

    >>> frame_of("masks/0003.png", ["0001", "0002", "0003"]), frame_of("3.png", ["0002", "0003"]), frame_of("m.png", [])
    (2, 1, 0)
    """
    stem = Path(mask).stem
    if stem in stems:
        return stems.index(stem)
    numbers = [int(s) if s.isdecimal() else -1 for s in stems]
    return numbers.index(int(stem)) if stem.isdecimal() and int(stem) in numbers else 0


def describe(mask: MaskImage, small: list[int]) -> str:
    """A summary of a mask in one line.

    Args:
        mask: as read. small: its objects that are smaller than a cell.
    """
    objects = mask.objects()
    listed = [f"{number} ({pixels} pixels)" for number, pixels in list(objects.items())[:8]]
    text = f"{len(objects)} object{'s' if len(objects) > 1 else ''}: {', '.join(listed)}"
    text += f" and {len(objects) - len(listed)} more" if len(objects) > len(listed) else ""
    if small:
        text += f"; too small to be followed at this --size, give a larger one: {', '.join(map(str, small[:8]))}"
    return "; ".join([text, *mask.notes])


def _propagate(
    frames: Frames, propagator: MaskPropagator, first: MaskImage, out: Path, overlay: Any
) -> tuple[list[Path], bool]:
    """The masks written, and whether Ctrl-C stopped the work."""
    from tqdm import tqdm

    from siamfast.io.masks import write_mask
    from siamfast.tracking.drawing import draw_mask

    # Index, image and time of frames that the propagator took and has not returned a mask for.
    pending: list[tuple[int, NDArray[np.uint8], float | None]] = []

    def images() -> Iterator[NDArray[np.uint8]]:
        for index, image in frames:
            pending.append((index, image, frames.time))
            yield image

    stems = frames.stems()
    paths: list[Path] = []
    stopped = False
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        try:
            for numbers in propagator.propagate(images(), first.numbers):
                if not paths:
                    out.mkdir(exist_ok=True)
                    # Printed only now, so that an error about the mask is one line with nothing above it.
                    where = stems[frames.start] if stems else "the first frame"
                    print(f"mask of {where}: {describe(first, propagator.too_small(first.numbers))}", file=sys.stderr)
                    total = None if frames.count is None else frames.count - frames.start
                    bar = stack.enter_context(
                        tqdm(total=total, unit="frame", desc="propagate", file=sys.stderr, dynamic_ncols=True)
                    )
                index, image, moment = pending.pop(0)
                path = out / f"{stems[index] if stems else f'{index:05d}'}.png"
                write_mask(path, numbers, first.palette)
                paths.append(path)
                if overlay is not None:
                    overlay.write(draw_mask(image, numbers), moment)
                bar.update(index + 1 - frames.start - bar.n)
        except KeyboardInterrupt:
            stopped = True
            if not paths:
                raise
    spent = time.perf_counter() - began
    print(
        f"{len(paths)} masks in {out}, {len(paths) / spent:.2f} frames/s ({propagator.device})"
        + (f"; {frames.skipped} frames could not be decoded and were skipped" if frames.skipped else "")
        + ("; stopped early" if stopped else "")
        + (f"; {frames.trouble}" if frames.trouble else "")
        + (f"; wrote {overlay.path}" if overlay is not None else ""),
        file=sys.stderr,
    )
    return paths, stopped


def _truth_files(folder: Path) -> list[Path]:
    from siamfast.io.listing import image_files

    if not folder.is_dir():
        raise ValueError(f"--score: {folder} is not a folder")
    mask_files = image_files(folder)
    if len(mask_files) < 3:
        raise ValueError(
            f"--score: {len(mask_files)} masks in {folder}, expected 3 or more (the first and last do not count)"
        )
    return mask_files
