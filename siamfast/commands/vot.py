"""`siamfast vot`: serve the VOT toolkit, which runs trackers over TraX."""

from __future__ import annotations

import argparse

from siamfast.tracking.registry import TRACKERS, Tracker

EXAMPLE = "example:\n  siamfast vot --model guided"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast vot`."""
    parser.add_argument("--model", choices=tuple(TRACKERS), help="default: the model of the weights, or mobile")
    parser.add_argument("--weights", metavar="FILE", help="a file of weights (default: the packaged ones)")
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
