"""See what corresponds to what: the cells of one frame that a cell of the next one resembles.

python examples/correspondence.py --out correspondence.png
"""

import argparse

import torch
from matplotlib.figure import Figure

import siamfast
from siamfast.data.synthetic import SyntheticVideo
from siamfast.models.correspondence_weights import load_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="correspondence.png")
    options = parser.parse_args()
    clip = list(SyntheticVideo(14, length=11, size=(241, 321)))
    (first, _), (last, box) = clip[0], clip[-1]
    images = torch.stack([torch.from_numpy(frame.copy()).permute(2, 0, 1) for frame in (first, last)])
    with torch.inference_mode():
        features = load_encoder().eval()(images)  # (2, C, 31, 41): stride 8
    # The cell in the middle of the target in the last frame.
    column, row = (round(float(box[n] + box[n + 2] / 2) / 8) for n in (0, 1))
    affinity = siamfast.correspondence_affinity(features[1:], features[:1], temperature=0.05, radius=12)
    cells = affinity[0, row, column, 0]  # (31, 41)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    axes[0].imshow(last)
    axes[0].plot(8 * column, 8 * row, "o", markeredgecolor="white", color="#d55e00", markersize=9)
    axes[0].set_title("a cell of frame 10")
    axes[1].imshow(first)
    shown = axes[1].imshow(cells, extent=(-4, 324, 244, -4), alpha=0.6, cmap="magma")
    axes[1].set_title("its affinity to the cells of frame 0")
    figure.colorbar(shown, ax=axes[1], label="weight; all weights sum to 1")
    for each in axes:
        each.set_axis_off()
    figure.savefig(options.out, dpi=110)
    print(f"{options.out}: weights sum to {float(cells.sum()):.3f}, the largest is {float(cells.max()):.3f}")


if __name__ == "__main__":
    main()
