"""Losses for correspondence without labels: cycles through time that end where they began, and colour."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from siamfast.geometry import STRIDE
from siamfast.ops.correspondence_warp import correspondence_warp

COLORS = 16  # clusters of Lab's ab plane (Vondrick et al. 2018)


def cycle_loss(
    features: torch.Tensor,
    places: torch.Tensor,
    *,
    longest: int = 4,
    temperature: float = 0.07,
    cells: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The distance between coordinates and their return after being carried through time and back by the affinity.

    The coordinates of the first view's cells are warped frame by frame k frames away and back, k = 1 .. longest, and
    also in one step there and one back (skip cycles), after Wang, Jabri, Efros 2019, "Learning Correspondence from the
    Cycle-Consistency of Time", eq. 3 and 4. They return to a last view that shows the first frame through another
    window, so that the network does not learn a cell's place in the image.

    Args:
        features: (N, F + 1, C, n, n) of the views: F frames in order, then the first one through another window.
        places: (N, 2, n, n), the place in the first view of each cell of the last one: x, y in cells.
        longest: the largest k; at most F - 1.
        temperature: of the affinity.
        cells: the number of visible cells to divide by instead: for a part of a batch, the mean over its parts.

    Returns:
        The loss, a mean distance in cells with slope at most 1 (Charbonnier's), over the cells visible in the first
        view; and the distances (cycles, visible cells), without a gradient: the k cycles first, shortest first.
    """
    frames = features.shape[1] - 1
    longest = min(longest, frames - 1)
    views = features.unbind(1)
    side = features.shape[-1]
    axis = torch.arange(side, dtype=torch.float32, device=features.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    start = torch.stack((x, y)).expand(features.shape[0], -1, -1, -1)

    def carry(query: int, reference: int, coordinates: torch.Tensor) -> torch.Tensor:
        carried: torch.Tensor = correspondence_warp(
            views[query], views[reference], coordinates, temperature=temperature
        )
        return carried

    ends = []
    outward, skips = [start], []
    for k in range(1, longest + 1):
        outward.append(carry(k, k - 1, outward[-1]))
        if k > 1:
            skips.append(carry(-1, k, carry(k, 0, start)))
    for k in range(1, longest + 1):
        coordinates = outward[k]
        for frame in range(k - 1, 0, -1):
            coordinates = carry(frame, frame + 1, coordinates)
        ends.append(carry(-1, 1, coordinates))
    inside = visible_cells(places)
    off = [(end - places).square().sum(1)[inside] for end in (*ends, *skips)]
    distances = torch.stack(off)
    total = ((distances + 0.25).sqrt() - 0.5).sum(1) / (inside.sum() if cells is None else cells)
    return total.mean(), distances.detach().sqrt()


def visible_cells(places: torch.Tensor) -> torch.Tensor:
    """places: (N, 2, n, n) as for `cycle_loss` -> (N, n, n) bool: the cells of the last view that the first one
    shows."""
    return ((places >= 0) & (places <= places.shape[-1] - 1)).all(1)


def color_loss(features: torch.Tensor, labels: torch.Tensor, *, temperature: float = 1.0) -> torch.Tensor:
    """Negative log-likelihood of a frame's colours, copied from three other frames by one softmax over all their cells.

    Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos", eq. 1 to 3. The warped labels are already a
    distribution, so the loss takes their logarithm, without another softmax.

    Args:
        features: (N, 4, C, n, n) of gray frames; the last one's colours are predicted from the others'.
        labels: (N, 4, n, n), the colour cluster of each cell, 0 to COLORS - 1.
        temperature: of the affinity.
    """
    one_hot = F.one_hot(labels[:, :3], COLORS).permute(0, 1, 4, 2, 3).to(torch.float32)
    colors = correspondence_warp(features[:, 3], features[:, :3], one_hot, temperature=temperature, normalize=False)
    return F.nll_loss((colors + 1e-5).log(), labels[:, 3])


def frame_color_loss(features: torch.Tensor, frames: torch.Tensor, *, temperature: float = 0.07) -> torch.Tensor:
    """The distance of a frame's colours from those copied from the previous frame by correspondence, as a share of
    Lab's ab plane: the mean over cells of Charbonnier's distance, divided by 100.

    Args:
        features: (N, 2, C, n, n) of the previous and the current frame.
        frames: (N, 2, 3, S, S) RGB 0..255, S = 8(n - 1) + 1.
        temperature: of the affinity.
    """
    before, now = (cell_colors(frames[:, t]) for t in (0, 1))
    predicted = correspondence_warp(features[:, 1], features[:, 0], before, temperature=temperature)
    return ((predicted - now).square().sum(1) + 1.0).sqrt().mean() / 100


def cell_colors(frames: torch.Tensor) -> torch.Tensor:
    """frames: (N, 3, S, S) RGB 0..255, S = 8(n - 1) + 1 -> (N, 2, n, n) float32: Lab's a, b, averaged around each
    cell."""
    small = F.avg_pool2d(frames.float(), STRIDE + 1, STRIDE, STRIDE // 2, count_include_pad=False)
    linear = (small.clamp(0, 255) / 255).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    lab = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2Lab)[..., 1:] for image in linear])
    return torch.from_numpy(lab).permute(0, 3, 1, 2).to(frames.device)


def color_clusters(colors: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """colors: (M, 2) a, b -> (COLORS, 2), centres of k-means; the same for the same seed."""
    cv2.setRNGSeed(seed)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 0.1)
    _, _, centers = cv2.kmeans(
        colors.float().cpu().numpy(),
        COLORS,
        None,
        stop,
        3,
        cv2.KMEANS_PP_CENTERS,  # type: ignore[call-overload]
    )
    return torch.from_numpy(np.asarray(centers, np.float32))


def color_labels(colors: torch.Tensor, clusters: torch.Tensor) -> torch.Tensor:
    """colors: (..., 2, n, n) a, b; clusters: (COLORS, 2) -> (..., n, n) int64, the nearest cluster."""
    points = colors.movedim(-3, -1)
    return torch.cdist(points.flatten(0, -2), clusters.to(points)).argmin(-1).view(points.shape[:-1])
