"""`siamfast vot`: a tracker of ours behind TraX, the protocol by which the VOT toolkit runs trackers."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from siamfast.data.images import read_image
from siamfast.tracking.registry import TRACKERS, Tracker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast vot`."""
    parser.add_argument("--model", choices=tuple(TRACKERS), help="left out: what the weights are of, or mobile")
    parser.add_argument("--weights", metavar="FILE", help="other weights than the packaged ones")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until the toolkit quits.

    Raises:
        ValueError: vot-trax is not installed, the toolkit does not answer, or sends what is no image or box.
    """
    try:
        import trax
    except ImportError as error:
        raise ValueError(f"vot: needs vot-trax (pip install 'siamfast[vot]'): {error}") from error

    tracker = Tracker(arguments.weights, model=arguments.model, device=arguments.device)
    try:
        with trax.Server([trax.Region.RECTANGLE], [trax.Image.PATH], tracker_name=tracker.name) as server:
            while serve(server, tracker):
                pass
    except trax.TraxException as error:
        raise ValueError(f"vot: TraX: {error}") from error
    return 0


def serve(server: Any, tracker: Any) -> bool:
    """Answer one request; False when the toolkit quits."""
    import trax

    request = server.wait()
    if request.type not in (trax.TraxStatus.INITIALIZE, trax.TraxStatus.FRAME):
        return False
    image = read_image(request.image["color"].path())
    if request.type == trax.TraxStatus.INITIALIZE:
        box = request.objects[0][0].bounds()  # we ask for rectangles, so it is one
        tracker.init(image, box)
        confidence = 1.0
    else:
        box, confidence = tracker.update(image)
    x, y, w, h = (float(v) for v in np.asarray(box))
    server.status([(trax.Rectangle.create(x, y, w, h), {"confidence": f"{confidence:.4f}"})])
    return True
