"""`siamfast show-correspondence`: a figure to check the correspondence of two images by eye."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from siamfast.io.files import replacing

SUFFIXES = (".png", ".jpg", ".pdf", ".svg")


EXAMPLE = "example:\n  siamfast show-correspondence a.jpg b.jpg --out figure.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast show-correspondence`."""
    parser.add_argument("first", metavar="A", help="an image")
    parser.add_argument("second", metavar="B", help="another, in which the cells of A are matched")
    parser.add_argument("--out", required=True, metavar="FIG", help=f"the figure: {', '.join(SUFFIXES)}")
    parser.add_argument(
        "--weights", metavar="FILE", help="weights of a correspondence encoder (default: the packaged ones)"
    )
    parser.add_argument(
        "--size", type=int, default=480, help="shorter side of the encoder's input, pixels (default: 480)"
    )
    parser.add_argument("--temperature", type=float, default=0.05, help="temperature of the affinity (default: 0.05)")
    parser.add_argument("--topk", type=int, default=10, help="matches whose mean is the flow (default: 10)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")


def run(arguments: argparse.Namespace) -> int:
    """Draw the figure.

    Raises:
        ValueError, OSError: bad input, in one line.
    """
    from siamfast.io.images import read_image
    from siamfast.tracking.correspondence_figure import draw, match
    from siamfast.tracking.propagation import MaskPropagator

    out = Path(arguments.out)
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--out: got {arguments.out!r}, expected a name ending in {', '.join(SUFFIXES)}")
    if not out.parent.is_dir() or out.is_dir():
        raise ValueError(f"--out: cannot write {out}: it is a folder, or there is no folder {out.parent}")
    first, second = read_image(arguments.first), read_image(arguments.second)
    propagator = MaskPropagator(arguments.weights, device=arguments.device, size=arguments.size)
    correspondence = match(propagator, first, second, temperature=arguments.temperature, topk=arguments.topk)
    with replacing(out) as temporary:
        draw(first, second, correspondence).savefig(temporary, dpi=120)
    print(f"{out}: median confidence {np.median(correspondence.confidence):.3f}", file=sys.stderr)
    return 0
