"""`siamfast show-correspondence`: a figure by which a person sees whether the correspondence of two images is right."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from siamfast.files import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINES = 50  # most confident cells that are joined to their matches
SUFFIXES = (".png", ".jpg", ".pdf", ".svg")


class Correspondence(NamedTuple):
    """Of each cell of image A, in cells of stride 8 of the resized images.

    flow: (h, w, 2) x, y to its expected match in B. best: (h, w, 2) x, y of its best match. confidence: (h, w), the
    weight of that. grid: rows and columns of B's cells.
    """

    flow: NDArray[np.float32]
    best: NDArray[np.float32]
    confidence: NDArray[np.float32]
    grid: tuple[int, int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast show-correspondence`."""
    parser.add_argument("first", metavar="A", help="an image")
    parser.add_argument("second", metavar="B", help="another, in which the cells of A are looked for")
    parser.add_argument("--out", required=True, metavar="FIG", help=f"the figure: {', '.join(SUFFIXES)}")
    parser.add_argument("--weights", metavar="FILE", help="of a correspondence encoder; left out: the packaged ones")
    parser.add_argument("--size", type=int, default=480, help="shorter side as the encoder sees it (default: 480)")
    parser.add_argument("--temperature", type=float, default=0.05, help="of the affinity (default: 0.05)")
    parser.add_argument("--topk", type=int, default=10, help="matches whose mean is the flow (default: 10)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")


def run(arguments: argparse.Namespace) -> int:
    """Draw the figure.

    Raises:
        ValueError, OSError: bad input, in one line.
    """
    from siamfast.data.images import read_image
    from siamfast.tracking.propagation import MaskPropagator

    out = Path(arguments.out)
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--out: got {arguments.out!r}, expected a name ending in {', '.join(SUFFIXES)}")
    if not out.parent.is_dir() or out.is_dir():
        raise ValueError(f"--out: cannot write {out}: it is a folder, or there is no folder {out.parent}")
    first, second = read_image(arguments.first), read_image(arguments.second)
    propagator = MaskPropagator(arguments.weights, device=arguments.device, size=arguments.size)
    found = match(propagator, first, second, temperature=arguments.temperature, topk=arguments.topk)
    _write(draw(first, second, found), out)
    print(f"{out}: median confidence {np.median(found.confidence):.3f}", file=sys.stderr)
    return 0


def match(propagator: Any, first: NDArray[np.uint8], second: NDArray[np.uint8], **options: Any) -> Correspondence:
    """Where the cells of `first` lie in `second`, both (H, W, 3) uint8 RGB; options of `correspondence_warp`."""
    import torch

    from siamfast.ops.correspondence_warp import correspondence_warp

    with torch.inference_mode():
        query, reference = propagator.embed(first), propagator.embed(second)
        nothing = reference[:, :0]
        flow, confidence, indices = correspondence_warp(
            query, reference, nothing, returns=("flow", "confidence", "indices"), **options
        )
    width = reference.shape[3]
    best = torch.stack((indices[0, 0] % width, indices[0, 0] // width), 2)
    parts = flow[0].permute(1, 2, 0), best, confidence[0]
    flows, places, sure = (part.cpu().numpy().astype(np.float32) for part in parts)
    return Correspondence(flows, places, sure, (reference.shape[2], reference.shape[3]))


def flow_color(flow: NDArray[np.float32], longest: float) -> NDArray[np.uint8]:
    """flow: (..., 2) x, y -> (..., 3) uint8 RGB: its direction as the hue, its length over `longest` as the saturation.

    >>> import numpy as np
    >>> flow_color(np.zeros((1, 1, 2), np.float32), 1.0).tolist()
    [[[255, 255, 255]]]
    """
    from matplotlib.colors import hsv_to_rgb

    hue = (np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi)) % 1.0
    length = np.clip(np.linalg.norm(flow, axis=-1) / max(longest, 1e-6), 0, 1)
    color = hsv_to_rgb(np.stack([hue, length, np.ones_like(hue)], -1))
    return np.asarray(np.round(color * 255), np.uint8)


def confident_cells(confidence: NDArray[np.float32], count: int = LINES) -> NDArray[np.intp]:
    """(n, 2) y, x of the `count` most confident cells, most confident first."""
    order = np.argsort(-confidence, axis=None, kind="stable")[:count]
    return np.stack(np.unravel_index(order, confidence.shape), 1)


def draw(first: NDArray[np.uint8], second: NDArray[np.uint8], found: Correspondence) -> Any:
    """A matplotlib figure: A and B joined by lines at the most confident cells; the flow over A, its colours' wheel;
    confidence."""
    from matplotlib.figure import Figure

    height, width = found.confidence.shape
    longest = float(np.quantile(np.linalg.norm(found.flow, axis=-1), 0.95))
    figure = Figure(figsize=(12, 8), layout="constrained")
    grid = figure.add_gridspec(2, 1)
    top = figure.add_subplot(grid[0])
    # Cell i of a side lies at i / (cells - 1) of it; B is drawn beside A, as tall as A.
    gap, tall, wide = 0.03, first.shape[0] / first.shape[1], 1.0
    other = tall * second.shape[1] / second.shape[0]
    top.imshow(first, extent=(0, wide, tall, 0))
    top.imshow(second, extent=(wide + gap, wide + gap + other, tall, 0))
    top.set(xlim=(0, wide + gap + other), ylim=(tall, 0), aspect="equal")
    cells = confident_cells(found.confidence)
    rows, columns = max(1, height - 1), max(1, width - 1)
    tall_b, wide_b = (max(1, n - 1) for n in found.grid)
    # Coloured by where they start, so that neighbours that stay neighbours keep a pattern.
    colors = flow_color(np.stack([cells[:, 1] - columns / 2, cells[:, 0] - rows / 2], 1), max(rows, columns) / 2) / 255
    for (y, x), color in zip(cells, colors, strict=True):
        bx, by = found.best[y, x]
        ends = [x / columns * wide, wide + gap + bx / wide_b * other], [y / rows * tall, by / tall_b * tall]
        top.plot(*ends, color=color, linewidth=1, marker="o", markersize=3)
    top.set_title(f"A, B, and the {len(cells)} most confident cells")
    below = grid[1].subgridspec(1, 3, width_ratios=(3, 3, 1))
    flow, sure, wheel = (figure.add_subplot(below[n]) for n in range(3))
    flow.imshow(first, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    flow.imshow(flow_color(found.flow, longest), alpha=0.7)
    flow.set_title("flow from A to B")
    shown = sure.imshow(found.confidence, vmin=0, cmap="viridis")
    figure.colorbar(shown, ax=sure, shrink=0.8)
    sure.set_title("confidence")
    axis = np.linspace(-1, 1, 65, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    disc = flow_color(np.stack([x, y], -1), 1.0)
    disc[np.hypot(x, y) > 1] = 255
    wheel.imshow(disc)
    wheel.set_title(f"radius: {longest:.1f} cells")
    for axes in (top, flow, sure, wheel):
        axes.set_axis_off()
    return figure


def _write(figure: Any, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
