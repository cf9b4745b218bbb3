"""`siamfast vot`: serve the VOT toolkit, which runs trackers over TraX."""

from __future__ import annotations

import argparse

from siamfast.commands.model_option import add_model
from siamfast.tracking.registry import Tracker

EXAMPLE = "example:\n  siamfast vot --model guided"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast vot`."""
    add_model(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until the toolkit quits.

    Raises:
        ValueError: vot-trax is not installed, the toolkit does not answer, or sends something else than an image and a
            box.
    """
    try:
        import trax
    except ImportError as error:
        raise ValueError(f"vot: needs vot-trax (pip install 'siamfast[vot]'): {error}") from error

    from siamfast.evaluation.vot import serve

    tracker = Tracker(arguments.weights, model=arguments.model, device=arguments.device)
    try:
        with trax.Server([trax.Region.RECTANGLE], [trax.Image.PATH], tracker_name=tracker.name) as server:
            while serve(server, tracker):
                pass
    except trax.TraxException as error:
        raise ValueError(f"vot: TraX: {error}") from error
    return 0
