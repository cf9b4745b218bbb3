"""README's picture: a synthetic clip tracked by the default tracker, and the ops' speed beside the usual code.

python -m benchmarks.picture     # writes docs/readme.png from benchmarks/results/amd-epyc.jsonl
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import siamfast
from benchmarks import tables
from siamfast.data.synthetic import SyntheticVideo
from siamfast.tracking.drawing import WHITE, draw_box

ROOT = Path(__file__).parents[1]
SEED, SHOWN = 14, (0, 30, 60)
COLOR = (230, 159, 0)  # Okabe and Ito's orange, which everybody can tell from the white of the truth
BARS = {
    "xcorr, forward + backward": ("xcorr full", "SiamFC, B=8", "forward+backward", "grouped"),
    "xcorr_depthwise, forward + backward": ("xcorr depthwise", "pysot resnet-50, B=28", "forward+backward", "grouped"),
    "xcorr_balanced_loss": ("xcorr_balanced_loss", "SiamFC, B=32", "forward+backward", "grouped, eager"),
    "correspondence_warp, a window": ("correspondence_warp", "1x512x60x108, K=5, radius 12", "forward", "rows"),
    "xcorr_pixelwise (both are one matrix product)": ("xcorr pixelwise", "lighttrack, B=32", "forward", "matmul"),
    "augment": ("augment", "32 x 255 px to 239, blur of a tenth, noise", "call", "eager"),
    "SiamFC tracking, against siamfc-pytorch": ("tracking", "1 target, 3 scales", "call", "siamfc-pytorch"),
    "SiamFC training, against siamfc-pytorch": ("training", "SiamFC step, B=8", "call", "siamfc-pytorch"),
}


def frames() -> list[np.ndarray]:
    """Frames of a clip with the tracker's box, and the true one in white."""
    tracker, drawn = siamfast.Tracker(), []
    for number, (frame, truth) in enumerate(SyntheticVideo(SEED, length=max(SHOWN) + 1)):
        if number == 0:
            tracker.init(frame, tuple(truth))
        box = truth if number == 0 else tracker.update(frame).box
        if number in SHOWN:
            drawn.append(draw_box(draw_box(frame.copy(), truth, WHITE), box, COLOR))
    return drawn


def main() -> None:
    rows = {
        (row["op"], row["case"], row["pass"]): row for row in tables.latest(ROOT / tables.RESULTS / "amd-epyc.jsonl")
    }
    factors = {
        name: tables.time(rows[tuple(key)], peer) / tables.time(rows[tuple(key)]) for name, (*key, peer) in BARS.items()
    }
    figure = Figure(figsize=(9, 4.9), layout="constrained", facecolor="white")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    above.suptitle("A synthetic clip: the default tracker's box in orange, the true box in white", fontsize=10)
    pictures = above.subplots(1, len(SHOWN))
    for axes, picture, number in zip(pictures, frames(), SHOWN, strict=True):
        axes.imshow(picture)
        axes.set_title(f"frame {number}", fontsize=9)
        axes.set_axis_off()
    axes = below.subplots()
    bars = axes.barh(list(factors), list(factors.values()), color="#0072b2")
    axes.bar_label(bars, [f"{factor:.1f}" for factor in factors.values()], padding=3, fontsize=9)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.text(1, 1.0, "1: as fast", transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(
        "times faster than plain PyTorch, unless said otherwise (AMD EPYC with AVX-512, 2 threads)", fontsize=9
    )
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(ROOT / "docs" / "readme.png", dpi=110)


if __name__ == "__main__":
    main()
