"""`siamfast demo`: render a synthetic clip, track it with the default weights, and show the result."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

EXAMPLE = "example:\n  siamfast demo --seed 3 --out demo-3/"
BOX = (230, 159, 0)  # Okabe and Ito's orange


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="siamfast-demo", help="folder to write (default: %(default)s)")
    # The default weights reach a mean overlap above .5 on nine of clips 0 to 11 (.11 to .87, median .65; clip 0: .74).
    parser.add_argument("--seed", type=int, default=0, help="seed of the clip (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=120, help="length of the clip (default: %(default)s)")
    parser.add_argument("--weights", default=None, help="weights to track with (default: those in the package)")


def run(arguments: argparse.Namespace) -> int:
    from siamfast import comparison
    from siamfast.data.synthetic import SyntheticVideo
    from siamfast.evaluation.metrics import overlap, score
    from siamfast.io.output import VideoOutput
    from siamfast.tracking.drawing import WHITE, draw_box, draw_track
    from siamfast.tracking.registry import Tracker
    from siamfast.tracking.sequence_tracker import Track

    if arguments.frames < 2:
        raise ValueError(f"--frames: got {arguments.frames}, expected 2 or more")
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    clip = SyntheticVideo(arguments.seed, length=arguments.frames)
    tracker = Tracker(arguments.weights)
    print(f"tracking {len(clip)} synthetic frames (seed {arguments.seed}) ...")
    boxes: list[tuple[float, ...]] = []
    truths: list[np.ndarray] = []
    shown: list[np.ndarray] = []
    confidences: list[float] = []
    seconds = 0.0
    with VideoOutput(out / "track.mp4", fps=25.0) as video:
        for frame, truth in clip:
            if not boxes:
                tracker.init(frame, truth)
                track = Track((truth[0], truth[1], truth[2], truth[3]), 1.0)
            else:
                began = time.perf_counter()
                track = tracker.update(frame)
                seconds += time.perf_counter() - began
            boxes.append(track.box)
            confidences.append(track.confidence)
            truths.append(truth)
            picture = draw_track(draw_box(frame, truth, WHITE), track.box, track.confidence)
            video.write(picture)
            shown.append(frame)
        video.commit()
    scores = score(np.array(boxes), np.array(truths))
    overlaps = overlap(np.array(boxes), np.array(truths))
    _contact_sheet(out / "contact-sheet.png", shown, boxes, confidences, overlaps)
    _plot(out / "overlap.png", overlaps)
    print(f"mean overlap {scores.ao:.3f}, success rate at 0.5 {scores.sr50:.3f}")
    print(f"tracker: {(len(clip) - 1) / seconds:.1f} frames/s ({tracker.precision}, {tracker.device})")
    rows = [comparison.compare(case, seconds=0.3) for case in comparison.cases()]
    print(comparison.table(rows))
    print(f"written: {out}/track.mp4, {out}/contact-sheet.png, {out}/overlap.png (white: truth)")
    return 0


def _contact_sheet(
    path: Path,
    frames: list[np.ndarray],
    boxes: list[tuple[float, ...]],
    confidences: list[float],
    overlaps: np.ndarray,
    columns: int = 3,
    rows: int = 2,
) -> None:
    """Some of the frames, which have the true boxes, with the tracker's, and what the boxes are."""
    from matplotlib.figure import Figure

    from siamfast.tracking.drawing import draw_box

    picks = np.linspace(0, len(frames) - 1, columns * rows).round().astype(int)
    height, width = frames[0].shape[:2]
    figure = Figure(figsize=(4 * columns, (4 * height / width + 0.3) * rows + 0.4), layout="constrained")
    figure.suptitle("orange: the tracker's box; white: the true box, known from the rendering", fontsize=11)
    for axes, pick in zip(figure.subplots(rows, columns).flat, picks, strict=True):
        axes.imshow(draw_box(frames[pick], boxes[pick], BOX))
        axes.set_title(f"frame {pick}, overlap {overlaps[pick]:.2f}, confidence {confidences[pick]:.2f}", fontsize=10)
        axes.set_axis_off()
    figure.savefig(path, dpi=110)


def _plot(path: Path, overlaps: np.ndarray) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(overlaps, color="#0072b2")
    axes.set(xlabel="frame", ylabel="overlap with the truth (IoU)", ylim=(0, 1), title=f"mean {overlaps.mean():.3f}")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
