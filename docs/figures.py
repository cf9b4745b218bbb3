"""The figures of docs/figures, drawn from synthetic clips with the packaged weights.

    python docs/figures.py           # draws them anew (`make figures`)
    python docs/figures.py --check   # writes nothing; names those that look otherwise and exits 1

`make docs` checks them, so that a figure shows what the code of the same commit computes.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image as Pillow

import siamfast
from siamfast.data.synthetic import SyntheticVideo
from siamfast.geometry import STRIDE, box_centers, box_centers_by_index, resized_index
from siamfast.models.correspondence_weights import load_encoder
from siamfast.models.guidance import Guide
from siamfast.models.guided_weights import load_guided
from siamfast.models.siamfc_weights import load_model

Image = NDArray[np.uint8]

GIVEN, PREDICTED = "#56B4E9", "#E69F00"  # of Okabe and Ito, which the colour-blind can tell apart
CLIP = 18  # the seed of the clips in the concepts' figures
LABELS = {"r_pos": 16, "r_neg": 32}


def panels(count: int, *, width: float, height: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Axes without ticks, in rows of as many each; width and height of one in inches."""
    columns = count // rows
    figure = Figure(figsize=(width * columns, height * rows), dpi=120)
    figure.set_layout_engine("constrained", h_pad=0.08)
    axes = [figure.add_subplot(rows, columns, n + 1) for n in range(count)]
    for one in axes:
        one.set(xticks=[], yticks=[])
    return figure, axes


def box_on(axes: Axes, box: NDArray[np.floating], color: str, label: str | None = None) -> None:
    """Draw x, y, w, h, by edge, on an image shown by index."""
    x, y, w, h = (float(value) for value in box)
    edge = Rectangle((x - 0.5, y - 0.5), w, h, fill=False, edgecolor=color, linewidth=2, label=label)
    axes.add_patch(edge)


def over(axes: Axes, image: Image, values: NDArray[np.floating], extent: tuple[float, float, float, float]) -> None:
    """Show values over a gray image; extent: left, right, bottom, top of the map, image pixels by index."""
    axes.imshow(image.mean(-1), cmap="gray", vmin=0, vmax=255)
    axes.imshow(values, extent=extent, cmap="inferno", alpha=0.65, interpolation="nearest")
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))


def tracked() -> Figure:
    """Frames of the tutorial's first clip, with the default tracker's boxes and the true ones."""
    video, tracker = SyntheticVideo(33, length=40), siamfast.Tracker()
    shown = 0, 20, 39
    figure, axes = panels(len(shown), width=3.0, height=2.7)
    tracker.init(video.frame(0), video.box(0))
    for t in range(1, len(video)):
        box = np.array(tracker.update(video.frame(t)).box)
        if t in shown:
            box_on(axes[shown.index(t)], box, PREDICTED, "tracked box")
    for one, t in zip(axes, shown, strict=True):
        one.imshow(video.frame(t))
        box_on(one, video.box(t), GIVEN, "true box")
        one.set_title(f"frame {t}", fontsize=10)
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def targets() -> Figure:
    """Three targets of a clip, followed by one tracker."""
    video, tracker, shown = SyntheticVideo(CLIP, length=31), siamfast.MultiTracker(), (0, 15, 30)
    figure, axes = panels(len(shown), width=3.0, height=2.6)
    others = {2: np.array([295.0, 37, 170, 150]), 3: np.array([436.0, 192, 23, 39])}  # drawn by hand
    boxes = {1: video.box(0)} | others
    tracker.add(video.frame(0), boxes)
    for t in range(len(video)):
        if t > 0:
            boxes = {name: np.array(track.box) for name, track in tracker.update(video.frame(t)).items()}
        if t in shown:
            one = axes[shown.index(t)]
            one.imshow(video.frame(t))
            one.set_title(f"frame {t}", fontsize=10)
            for (name, box), color in zip(boxes.items(), (GIVEN, PREDICTED, "#CC79A7"), strict=True):
                box_on(one, box, color)
                one.text(box[0], box[1] - 4, str(name), color=color, fontsize=11, weight="bold")
    return figure


def both_ways() -> Figure:
    """A frame midway between two key frames: tracked from each, and on the line between them."""
    video, middle = SyntheticVideo(15, length=61), 30  # a clip where the three differ
    ways = (("forwards", GIVEN, range(61)), ("backwards", PREDICTED, range(60, -1, -1)))
    figure, axes = panels(3, width=3.0, height=2.8)
    for one, t in zip(axes, (0, middle, 60), strict=True):
        one.imshow(video.frame(t))
        one.set_title(f"frame {t}" + ("" if t == middle else ", a key frame"), fontsize=10)
    for end, t in ((axes[0], 0), (axes[2], 60)):
        box_on(end, video.box(t), "white")
    for name, color, order in ways:
        tracker = siamfast.Tracker()
        tracker.init(video.frame(order[0]), video.box(order[0]))
        for t in order[1 : order.index(middle) + 1]:
            box = tracker.update(video.frame(t)).box
        box_on(axes[1], np.array(box), color, name)
    share = middle / 60
    box_on(axes[1], (1 - share) * video.box(0) + share * video.box(60), "#CC79A7", "straight line")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def response() -> Figure:
    """SiamFC's template, search crop and response."""
    video, model = SyntheticVideo(CLIP, length=60), load_model(None).eval()
    t = 8
    template = siamfast.siamfc_crops(video.frame(0), video.box(0)).template
    search = siamfast.siamfc_crops(video.frame(t), video.box(0)).search
    with torch.inference_mode():
        scores = model(as_batch(template), as_batch(search))[0, 0].numpy()
    figure, axes = panels(3, width=3.0, height=3.2)
    axes[0].imshow(template)
    axes[0].set_title("template $z$, 127 px", fontsize=10)
    axes[1].imshow(search)
    axes[1].set_title(f"search crop $x$, 255 px, frame {t}", fontsize=10)
    side = len(scores)
    first = (search.shape[0] - 1) / 2 - STRIDE * (side - 1) / 2
    extent = (first - STRIDE / 2, first + STRIDE * (side - 0.5), first + STRIDE * (side - 0.5), first - STRIDE / 2)
    over(axes[2], search, scores, extent)
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    axes[2].plot(first + STRIDE * column, first + STRIDE * row, "+", color=GIVEN, markersize=14, markeredgewidth=2)
    axes[2].set_title(f"response, {side} x {side}, and its peak", fontsize=10)
    return figure


def labels() -> Figure:
    """The label map of a centred target, and the weights that balance it."""
    from siamfast.ops.balanced_logistic_loss.reference import cell_weights

    figure, axes = panels(2, width=3.6, height=3.0)
    label = siamfast.logistic_labels(17, **LABELS)
    weight = cell_weights(label[None], neutral="half", balance="sample", neg_weight=1.0)[0]
    for one, values, title in zip(axes, (label, weight), ("label $y$", "weight $w$"), strict=True):
        drawn = one.imshow(values.numpy(), cmap="cividis")
        figure.colorbar(drawn, ax=one, shrink=0.8)
        one.set_title(title, fontsize=10)
    return figure


def affinity() -> Figure:
    """The affinity of one cell of a frame with all cells of an earlier frame, and a mask that it carries over."""
    video = SyntheticVideo(CLIP, length=60)
    times = 0, 12
    propagator = siamfast.MaskPropagator(size=240)
    with torch.inference_mode():
        before, now = (propagator.embed(video.frame(t)) for t in times)
    x, y = box_centers_by_index(video.box(times[1]))
    rows, columns = now.shape[2:]
    height, width = video.height, video.width
    row, column = round(y / (height - 1) * (rows - 1)), round(x / (width - 1) * (columns - 1))
    options: dict[str, Any] = {"temperature": 0.05, "topk": 10}
    weights = siamfast.correspondence_affinity(now, before, **options)[0, row, column, 0]
    mask = torch.nn.functional.interpolate(
        torch.from_numpy(video.mask(times[0])).float()[None, None], before.shape[2:], mode="area"
    )
    carried = siamfast.correspondence_warp(now, before, mask, **options)[0, 0]
    figure, axes = panels(4, width=3.2, height=2.7, rows=2)
    half = width / (columns - 1) / 2, height / (rows - 1) / 2
    extent = (-half[0], width - 1 + half[0], height - 1 + half[1], -half[1])
    axes[0].imshow(video.frame(times[1]))
    at = column * (width - 1) / (columns - 1), row * (height - 1) / (rows - 1)
    axes[0].plot(*at, "+", color=PREDICTED, markersize=14, markeredgewidth=2)
    axes[0].set_title(f"query cell, frame {times[1]}", fontsize=10)
    over(axes[1], video.frame(times[0]), weights.numpy(), extent)
    axes[1].set_title(f"its affinity, frame {times[0]}", fontsize=10)
    over(axes[2], video.frame(times[0]), mask[0, 0].numpy(), extent)
    axes[2].set_title(f"mask, frame {times[0]}", fontsize=10)
    over(axes[3], video.frame(times[1]), carried.numpy(), extent)
    axes[3].set_title(f"mask carried to frame {times[1]}", fontsize=10)
    return figure


def guidance() -> Figure:
    """The previous frame's target as maps on the current search crop."""
    video, model = SyntheticVideo(CLIP, length=60), load_guided(None)
    names = ("mask", "gaussian", "flow", "confidence", "entropy")
    t, exemplar, out = 12, 127, 303
    box = video.box(t - 1)
    side = float(siamfast.context_size(box)) * out / exemplar
    windows = [
        siamfast.crop_and_resize(video.frame(time), box_centers_by_index(box), side, out, rounding="subpixel")[0]
        for time in (t - 1, t)
    ]
    scale = out / side
    sides = box[2:] * scale
    placed = np.concatenate([np.full(2, out / 2) - sides / 2, sides])
    with torch.inference_mode():
        guide = Guide(load_encoder(None), model.backbone, names)
        maps = guide(as_batch(windows[1]), as_batch(windows[0]), torch.from_numpy(placed)[None]).maps[0].numpy()
    figure, axes = panels(6, width=2.3, height=2.5, rows=2)
    axes[0].imshow(windows[0])
    box_on(axes[0], placed, GIVEN)
    axes[0].set_title("last frame, its box", fontsize=10)
    first, cells = model.backbone.first, maps.shape[-1]
    extent = (first - 4, first + STRIDE * cells - 4, first + STRIDE * cells - 4, first - 4)
    shown = [maps[0], maps[1], np.hypot(maps[2], maps[3]), maps[4], maps[5]]
    for one, name, values in zip(
        axes[1:], ("mask", "gaussian", "flow (length)", "confidence", "entropy"), shown, strict=True
    ):
        over(one, windows[1], values, extent)
        one.set_title(name, fontsize=10)
    return figure


def mobile() -> Figure:
    """The mobile tracker's quality map, and the box that it chose."""
    video, tracker = SyntheticVideo(CLIP, length=60), siamfast.MobileTracker(engine="torch", precision="float32")
    tracker.init(video.frame(0), video.box(0))
    t = 8
    for time in range(1, t):
        last = np.array(tracker.update(video.frame(time)).box)
    frame = video.frame(t)
    found = np.array(tracker.update(frame).box)
    instance, exemplar = tracker.config.instance, 129
    side = float(siamfast.context_size(last, context_amount=tracker.config.context_amount)) * instance / exemplar
    search = siamfast.crop_and_resize(frame, box_centers_by_index(last), side, instance, rounding="subpixel")[0]
    scale = instance / side
    placed = np.concatenate([(found[:2] - box_centers(last)) * scale + instance / 2, found[2:] * scale])
    cells = len(tracker.response)
    figure, axes = panels(2, width=3.2, height=3.2)
    axes[0].imshow(search)
    box_on(axes[0], placed, PREDICTED)
    axes[0].set_title(f"search crop, {instance} px, and the box", fontsize=10)
    extent = (STRIDE / 2, STRIDE * (cells + 0.5), STRIDE * (cells + 0.5), STRIDE / 2)
    over(axes[1], search, tracker.response, extent)
    axes[1].set_title(f"quality, {cells} x {cells}", fontsize=10)
    return figure


def scales() -> Figure:
    """Where the pixels of an image lie in its version of twice the size, by index."""
    figure = Figure(figsize=(6, 1.5), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    for row, (count, factor, color) in enumerate(((4, 1.0, GIVEN), (8, 2.0, PREDICTED))):
        places = resized_index(np.arange(count), factor)
        for place in places:
            axes.add_patch(Rectangle((place - 0.5 / factor, -row - 0.4), 1 / factor, 0.8, fill=False, edgecolor=color))
        axes.plot(places, np.full(count, -row), "o", color=color, markersize=4)
    axes.set(xlim=(-0.6, 3.6), ylim=(-1.6, 0.6), yticks=(0, -1), xticks=np.arange(-0.5, 4, 0.5))
    axes.set_yticklabels(["4 pixels", "twice as many"])
    axes.set_xlabel("place by index of the 4 pixels")
    for spine in ("top", "right", "left"):
        axes.spines[spine].set_visible(False)
    return figure


def as_batch(image: Image) -> torch.Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


FIGURES: tuple[Callable[[], Figure], ...] = (
    tracked, targets, both_ways, response, labels, affinity, guidance, mobile, scales,
)  # fmt: skip


FOLDER = Path(__file__).parent / "figures"
# A pixel differs by more than this, of 255 levels, only where something else is drawn. On other CPUs a box moves by a
# pixel, which is a thousandth of a figure; another clip or map is a tenth.
SEEN, MOST = 64, 0.02


def drawn(draw: Callable[[], Figure]) -> Pillow.Image:
    """The figure as an image."""
    memory = io.BytesIO()
    draw().savefig(memory, format="png")
    return Pillow.open(memory).convert("RGB")


def apart(image: Pillow.Image, file: Path) -> str | None:
    """How the file differs from the image, None where it does not."""
    if not file.is_file():
        return "is not there"
    with Pillow.open(file) as stored:
        if stored.size != image.size:
            return f"is {stored.size[0]} x {stored.size[1]}, expected {image.size[0]} x {image.size[1]}"
        gaps = np.abs(np.array(stored.convert("RGB"), np.int16) - np.array(image, np.int16)).max(-1)
    share = float((gaps > SEEN).mean())
    return f"differs in {share:.1%} of its pixels" if share > MOST else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a figure looks otherwise")
    options, stale = parser.parse_args(), False
    for draw in FIGURES:
        image, file = drawn(draw), FOLDER / f"{draw.__name__}.webp"
        problem = apart(image, file) if options.check else None
        if problem is not None:
            print(f"docs/figures/{file.name} {problem}; `make figures` draws it", file=sys.stderr)
            stale = True
        elif not options.check:
            FOLDER.mkdir(exist_ok=True)
            image.save(file, quality=80, method=6)
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
