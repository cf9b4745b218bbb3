"""One page of the frames where both directions of tracking disagree or are unsure, for a person to look at."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from siamfast.annotation.between import Stretch
from siamfast.annotation.blend import Array
from siamfast.io.files import replacing
from siamfast.io.images import Image
from siamfast.io.kept_frames import KeptFrames
from siamfast.tracking.drawing import draw_box

_SIDE = 280  # of a thumbnail, pixels
_PICTURES = 400  # at most; more places are listed without
_FORWARD, _BACKWARD, _BLEND = (70, 150, 255), (255, 150, 40), (60, 230, 60)
# How every page begins, so that it is known as ours.
BEGINNING = "<!doctype html>\n<!-- siamfast annotate -->\n"
_PAGE = """<meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px system-ui, sans-serif; margin: 2em; }}
figure {{ display: inline-block; margin: 0 1em 1em 0; vertical-align: top; max-width: 280px; }}
img {{ max-width: 280px; }}
.forward {{ color: #4696ff; }} .backward {{ color: #ff9628; }} .blend {{ color: #2a2; }}
</style>
<h1>{title}</h1>
<p>{frames} frames at {places} places where the boxes tracked <b class="forward">forwards</b> and
<b class="backward">backwards</b> disagree, or the tracker is unsure: their confidence is below {threshold:g}.
<b class="blend">Green</b> is what was written. Each picture shows the worst frame of its place. Draw the box there, add
it to the key frames, and run the command again. Frames are counted from 0.</p>
{figures}
"""


class Place(NamedTuple):
    """Neighbouring frames of low confidence: first and last, the worst one, and the confidence there."""

    first: int
    last: int
    worst: int
    confidence: float


def doubtful_places(stretch: Stretch, threshold: float) -> Iterator[Place]:
    """The runs of neighbouring frames whose confidence is below `threshold`, in order.

    >>> stretch = Stretch(1, "cat", np.arange(6) + 50, np.zeros((6, 4)), np.array([1, 0.4, 0.2, 0.9, 0.1, 1]))
    >>> [tuple(place)[:3] for place in doubtful_places(stretch, 0.5)]
    [(51, 52, 52), (54, 54, 54)]
    """
    low = np.flatnonzero(stretch.confidences < threshold)
    for run in np.split(low, np.flatnonzero(np.diff(low) > 1) + 1):
        if len(run):
            worst = run[np.argmin(stretch.confidences[run])]
            first, last, frame = (int(stretch.frames[n]) for n in (run[0], run[-1], worst))
            yield Place(first, last, frame, float(stretch.confidences[worst]))


class Review:
    """Collects the doubtful places, with a picture of each one's worst frame.

    Args:
        threshold: frames below this confidence are listed. pictures: whether to draw them.
    """

    def __init__(self, threshold: float, *, pictures: bool = True) -> None:
        self.threshold = threshold
        self.frames = self.places = 0
        self._left = _PICTURES if pictures else 0
        self._figures: list[tuple[int, int, str]] = []

    def add(self, stretch: Stretch, kept: KeptFrames) -> None:
        """Add the places of a stretch; `kept` still has its frames."""
        for place in doubtful_places(stretch, self.threshold):
            self.places += 1
            self.frames += int(((stretch.frames >= place.first) & (stretch.frames <= place.last)).sum())
            picture = ""
            if self._left:
                self._left -= 1
                picture = f'<img src="{_thumbnail(stretch, place, kept.read(place.worst))}">'
            span = f"frames {place.first} to {place.last}" if place.last > place.first else f"frame {place.first}"
            self._figures.append(
                (stretch.target, place.first, f"<figure>{picture}<figcaption>target {stretch.target} "
                 f"({html.escape(stretch.label)}), {span}; worst: {place.worst}, confidence {place.confidence:.2f}"
                 "</figcaption></figure>")
            )  # fmt: skip

    def write(self, path: str | os.PathLike[str], title: str) -> None:
        """Write the page, by target and frame.

        Raises:
            OSError: it cannot be written; an old one stays.
        """
        figures = "\n".join(text for _, _, text in sorted(self._figures))
        page = _PAGE.format(
            title=html.escape(title), frames=self.frames, places=self.places, threshold=self.threshold, figures=figures
        )
        with replacing(path) as temporary:
            temporary.write_text(BEGINNING + page, encoding="utf-8")


def _thumbnail(stretch: Stretch, place: Place, image: Image) -> str:
    """The surroundings of the boxes in a frame as a data URL."""
    n = int(np.searchsorted(stretch.frames, place.worst))
    ways = (stretch.forward, _FORWARD), (stretch.backward, _BACKWARD), (stretch.boxes, _BLEND)
    drawn = [(way[n], color) for way, color in ways if way is not None]
    (left, top), scale, small = _surroundings(image, np.stack([box for box, _ in drawn]))
    for box, color in drawn:
        draw_box(small, (box - [left, top, 0, 0]) * scale, color)
    _, coded = cv2.imencode(".jpg", small[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 80))
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode()


def _surroundings(image: Image, boxes: Array) -> tuple[tuple[int, int], float, Image]:
    """The corner of the part of the image around the boxes, thumbnail pixels per image pixel, and the thumbnail."""
    height, width = image.shape[:2]
    low, high = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)
    margin = 0.4 * (high - low).max()
    left, top = np.clip(low - margin, 0, [width - 1, height - 1]).astype(int).tolist()
    right, bottom = np.ceil(np.clip(high + margin, [left + 1, top + 1], [width, height])).astype(int).tolist()
    part = image[top:bottom, left:right]
    scale = _SIDE / max(part.shape[:2])
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return (left, top), scale, np.ascontiguousarray(small, np.uint8)
