"""`--model` of the commands that track: a tracker's name, with a word for who gives a file of weights there."""

from __future__ import annotations

import argparse
from pathlib import Path

from siamfast.tracking.registry import TRACKERS


def add_model(parser: argparse.ArgumentParser) -> None:
    """`--model` and `--weights`."""
    names = ", ".join(TRACKERS)
    parser.add_argument(
        "--model",
        type=_name,
        metavar="NAME",
        help=f"{names} (default: the model of the weights, or mobile without weights)",
    )
    parser.add_argument("--weights", metavar="FILE", help="a file of weights (default: the packaged ones)")


def _name(text: str) -> str:
    if text not in TRACKERS:
        hint = "; give a file of weights to --weights" if Path(text).suffix else ""
        raise argparse.ArgumentTypeError(f"got {text!r}, expected one of {', '.join(TRACKERS)}{hint}")
    return text
