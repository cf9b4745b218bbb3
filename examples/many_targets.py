"""Follow several targets at once; one joins later, one leaves.

python examples/many_targets.py --out many.mp4
"""

import argparse

import siamfast
from siamfast.data.synthetic import SyntheticVideo
from siamfast.io.output import VideoOutput
from siamfast.tracking.drawing import draw_several


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="many.mp4")
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    tracker = siamfast.MultiTracker()
    with VideoOutput(options.out, fps=25.0) as video:
        for number, (frame, truth) in enumerate(SyntheticVideo(14, length=options.frames)):
            tracks = tracker.update(frame) if number else {}
            if number == 0:
                tracker.add(frame, {1: tuple(truth), 2: (80, 60, 60, 60)})
            elif number == 10:
                tracker.add(frame, {3: (300, 80, 50, 50)})
            elif number == 30:
                tracker.remove(2)
            shown = {name: (track.box, track.confidence) for name, track in tracks.items()}
            video.write(draw_several(frame, shown))
        video.commit()
    print(f"{options.out}: {options.frames} frames; at the end {', '.join(map(str, tracks))} are followed")


if __name__ == "__main__":
    main()
