"""The correspondence of two images, and a figure to check it by eye."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.ops.correspondence_warp import correspondence_warp

LINES = 50  # at most this many cells are joined to their matches


class Correspondence(NamedTuple):
    """The matches of each cell of image A, in cells of stride 8 of the resized images.

    flow: (h, w, 2) x, y to its expected match in B. best: (h, w, 2) x, y of its best match. confidence: (h, w), the
    weight of the best match. grid: rows and columns of B's cells.
    """

    flow: NDArray[np.float32]
    best: NDArray[np.float32]
    confidence: NDArray[np.float32]
    grid: tuple[int, int]


def match(propagator: Any, first: NDArray[np.uint8], second: NDArray[np.uint8], **options: Any) -> Correspondence:
    """Match the cells of `first` in `second`, both (H, W, 3) uint8 RGB; options of `correspondence_warp`."""
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
    """(n, 2) y, x of the most confident cell in each of at most `count` about equal parts of the image. Without parts,
    the most confident cells would all be side by side, in the background.

    >>> confident_cells(np.eye(4, dtype=np.float32), 4).tolist()
    [[0, 0], [0, 2], [2, 0], [2, 2]]
    """
    height, width = confidence.shape
    rows = min(height, max(1, int((count * height / width) ** 0.5)))
    columns = min(width, max(1, count // rows))
    cells = []
    for part in np.array_split(np.arange(height), rows):
        for other in np.array_split(np.arange(width), columns):
            inner = confidence[part[0] : part[-1] + 1, other[0] : other[-1] + 1]
            y, x = np.unravel_index(int(inner.argmax()), inner.shape)
            cells.append((part[0] + y, other[0] + x))
    return np.array(cells, np.intp)


def draw(first: NDArray[np.uint8], second: NDArray[np.uint8], correspondence: Correspondence) -> Any:
    """A matplotlib figure: A and B joined by lines at the most confident cells; the flow over A with its colour wheel;
    the confidence."""
    from matplotlib.figure import Figure

    height, width = correspondence.confidence.shape
    longest = float(np.quantile(np.linalg.norm(correspondence.flow, axis=-1), 0.95))
    figure = Figure(figsize=(12, 8), layout="constrained")
    grid = figure.add_gridspec(2, 1)
    top = figure.add_subplot(grid[0])
    # Cell i is at i / (cells - 1) of a side; B is drawn beside A, as tall as A.
    gap, tall, wide = 0.03, first.shape[0] / first.shape[1], 1.0
    other = tall * second.shape[1] / second.shape[0]
    top.imshow(first, extent=(0, wide, tall, 0))
    top.imshow(second, extent=(wide + gap, wide + gap + other, tall, 0))
    top.set(xlim=(0, wide + gap + other), ylim=(tall, 0), aspect="equal")
    cells = confident_cells(correspondence.confidence)
    rows, columns = max(1, height - 1), max(1, width - 1)
    tall_b, wide_b = (max(1, n - 1) for n in correspondence.grid)
    # Coloured by where they start, so that neighbours that stay neighbours keep a pattern.
    colors = flow_color(np.stack([cells[:, 1] - columns / 2, cells[:, 0] - rows / 2], 1), max(rows, columns) / 2) / 255
    for (y, x), color in zip(cells, colors, strict=True):
        bx, by = correspondence.best[y, x]
        ends = [x / columns * wide, wide + gap + bx / wide_b * other], [y / rows * tall, by / tall_b * tall]
        top.plot(*ends, color=color, linewidth=1, marker="o", markersize=3)
    top.set_title(f"A on the left; its {len(cells)} most confident cells, spread over it, joined to their matches in B")
    below = grid[1].subgridspec(1, 3, width_ratios=(3, 3, 1))
    flow, sure, wheel = (figure.add_subplot(below[n]) for n in range(3))
    flow.imshow(first, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    flow.imshow(flow_color(correspondence.flow, longest), alpha=0.7)
    flow.set_title("flow from A to B")
    shown = sure.imshow(correspondence.confidence, vmin=0, cmap="viridis")
    figure.colorbar(shown, ax=sure, shrink=0.8)
    sure.set_title("confidence")
    axis = np.linspace(-1, 1, 65, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    disc = flow_color(np.stack([x, y], -1), 1.0)
    disc[np.hypot(x, y) > 1] = 255
    wheel.imshow(disc)
    wheel.set_title(f"colour of the flow,\nrim: {longest:.1f} cells", fontsize=10)
    for axes in (top, flow, sure, wheel):
        axes.set_axis_off()
    return figure
