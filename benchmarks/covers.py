"""Real sequences with a panel that slides before the target, hides it for 10, 25 and 60 frames, and slides away.

python -m benchmarks.covers SEQUENCES OUT

SEQUENCES is a folder of sequences with groundtruth.txt. Each is played forwards and backwards until it lasts long
enough. The panel is as wide as the target's way while it is hidden, as high as the frame, and shows a frame of the next
sequence. Writes OUT/NAME/img and groundtruth.txt, nan where less than a twentieth of the target is visible: a data set
for `siamfast eval --dataset folder`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from siamfast.data.sequences import Sequence, read_sequences
from siamfast.io.files import replacing
from siamfast.io.images import image_size, read_image

SEEN, SLIDE, HIDDEN = 40, 12, (10, 25, 60)  # frames of a visible target, of a slide, and hidden altogether
MARGIN = 1.1  # the panel's width by that of the target's way
_LEAST_VISIBLE = 0.05  # share of the target's area, as in `siamfast synthesize`


def order(count: int, length: int) -> NDArray[np.int64]:
    """Indices of `count` frames played forwards and backwards in turn.

    >>> order(3, 6).tolist()
    [0, 1, 2, 1, 0, 1]
    """
    steps = np.arange(length) % (2 * count - 2)
    return np.minimum(steps, 2 * count - 2 - steps)


def slides() -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """The frames of each slide, and the panel's place: 0 before the target, -1 left of the frame, 1 right of it."""
    start, way = SEEN, np.linspace(-1, 0, SLIDE + 1)[:-1]
    for hidden in HIDDEN:
        places = np.concatenate([way, np.zeros(hidden), -way[::-1]])
        yield slice(start, start + len(places)), places
        start += len(places) + SEEN


def panels(boxes: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """(T, 2) left and right edge of the panel in each frame, outside the frame where there is none.

    Args:
        boxes: (T, 4) x, y, w, h of the target; width: of the frames.
    """
    edges = np.full((len(boxes), 2), float(width))
    for frames, places in slides():
        way = boxes[frames][places == 0]
        low, high = way[:, 0].min(), (way[:, 0] + way[:, 2]).max()
        half = MARGIN * (high - low) / 2
        middle = (low + high) / 2
        far = np.where(places < 0, middle + half, width - middle + half)  # from outside the frame to the middle
        edges[frames] = (middle + places * far)[:, None] + [-half, half]
    return edges


def write(sequence: Sequence, other: Sequence, out: Path) -> None:
    """Write a sequence with a panel that shows the first frame of another one."""
    frames = order(len(sequence), max(frames.stop for frames, _ in slides()) + SEEN)
    boxes, (height, width) = sequence.boxes[frames].copy(), image_size(sequence.frames[0])
    edges = panels(boxes, width)
    texture = read_image(other.frames[0])
    (out / "img").mkdir(parents=True, exist_ok=True)
    for number, (frame, (low, high)) in enumerate(zip(frames, edges, strict=True)):
        image = read_image(sequence.frames[frame]).copy()
        left, wide = round(low), round(high - low)
        first, last = max(left, 0), min(left + wide, width)
        if first < last:
            panel = cv2.resize(texture, (wide, height), interpolation=cv2.INTER_AREA)
            image[:, first:last] = panel[:, first - left : last - left]
        with replacing(out / "img" / f"{number + 1:08d}.png") as temporary:
            cv2.imwrite(str(temporary), image[..., ::-1])
    right = boxes[:, 0] + boxes[:, 2]
    covered = np.minimum(right, edges[:, 1]) - np.maximum(boxes[:, 0], edges[:, 0])
    boxes[covered > (1 - _LEAST_VISIBLE) * boxes[:, 2]] = np.nan
    np.savetxt(out / "groundtruth.txt", boxes, fmt="%.3f", delimiter=",")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    sequences = read_sequences(options.sequences)
    for sequence, other in zip(sequences, sequences[1:] + sequences[:1], strict=True):
        write(sequence, other, options.out / sequence.name)
        print(sequence.name, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
