"""The guide: maps of the target in the previous frame, carried onto the current one by correspondence."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from siamfast.geometry import STRIDE, box_centers, cell_coverage, index_to_edge
from siamfast.models.backbones import Backbone
from siamfast.models.correspondence import CorrespondenceEncoder
from siamfast.ops.correspondence_warp import correspondence_warp

# Name -> number of maps. Warped from the previous frame's target: mask, the cells it covers, 0 to 1; scaled, the mask
# with the same sum for small and large targets; gaussian, with deviations of a quarter of its sides; center, only its
# middle; direction, the unit vector x, y to the middle from each covered cell. From the warp itself: flow, the expected
# displacement x, y; confidence, its largest weight; entropy. coordinates: x and y of the cells, -1 to 1.
CHANNELS = {
    "mask": 1, "scaled": 1, "gaussian": 1, "center": 1, "direction": 2, "flow": 2, "confidence": 1, "entropy": 1,
    "coordinates": 2,
}  # fmt: skip
_OF_TARGET = ("mask", "scaled", "gaussian", "center", "direction")
# CRW's label propagation (Jabri, Owens, Efros 2020), the best of the presets for the packaged encoder.
_WARP: dict[str, Any] = {"temperature": 0.05, "topk": 10, "radius": 12, "window": "circle"}
BESIDE = 1.25  # distance for `elsewhere`: far enough that the other box has no part of the target
_FLOW_UNIT, _ENTROPY_UNIT = 10.0, 3.0  # divisors that bring the values to about 1


class Guidance(NamedTuple):
    """maps (N, G, h, w) on the backbone's features; trust (N, 2): the warp's mean confidence on the target, 0 to 1, and
    the share of the target's mask that it recovers (1: all of it); mask (N, h, w): the warped target, 0 to 1."""

    maps: torch.Tensor
    trust: torch.Tensor
    mask: torch.Tensor


class Guide:
    """Warps maps of the previous target onto the features of the search crop, aligned to the pixel.

    The two crops show the same window of their frames, so a still target does not move. The encoder's cells are at
    pixels 8 i; it gets the crops from pixel `first` mod 8 on, so that some of its cells coincide with the backbone's
    (289 pixels, cells from 48 on: cells 6 to 30 of 37). The guided network does not train the encoder: it runs in eval
    mode without gradients.

    Args:
        encoder: the correspondence encoder.
        backbone: the backbone with the features to guide.
        names: maps to make, from CHANNELS.

    >>> import torch
    >>> from siamfast.models.backbones import ResNetBackbone
    >>> guide = Guide(CorrespondenceEncoder(width=16), ResNetBackbone(), ("mask", "flow"))
    >>> crop, box = torch.zeros(1, 3, 289, 289), torch.tensor([[100.0, 100.0, 80.0, 60.0]])
    >>> guide(crop, crop, box).maps.shape
    torch.Size([1, 3, 25, 25])
    """

    def __init__(self, encoder: CorrespondenceEncoder, backbone: Backbone, names: tuple[str, ...]) -> None:
        self.encoder, self.names = encoder.eval(), names
        self._first, self._cells = backbone.first, backbone.cells

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """images: (N, 3, S, S), RGB 0..255 -> (N, C, n, n); cell i is at pixel first mod 8 + 8 i."""
        shift = self._first % STRIDE
        features: torch.Tensor = self.encoder(images[..., shift:, shift:])
        return features

    @torch.no_grad()
    def __call__(self, search: torch.Tensor, previous: torch.Tensor, boxes: torch.Tensor) -> Guidance:
        """Make the guidance for a batch.

        Args:
            search, previous: (N, 3, S, S), RGB 0..255, the same window of the current and of the previous frame.
            boxes: (N, 4) x, y, w, h of the target in `previous`, pixels from the edge of the first; nan: unknown, with
                maps of the target of 0.
        """
        self.encoder.eval()
        begin, count = self._first // STRIDE, self._cells(search.shape[-1])
        query, reference = self.embed(torch.cat((search, previous))).chunk(2)
        side = query.shape[-1]
        target_names = [name for name in _OF_TARGET if name == "mask" or name in self.names]
        place = index_to_edge(torch.arange(side, device=search.device) * STRIDE + self._first % STRIDE)
        values = target_maps(boxes.to(search.device, torch.float32), place, target_names)
        warped, flow, confidence, entropy = correspondence_warp(
            query,
            reference,
            torch.cat(list(values.values()), 1),
            returns=("values", "flow", "confidence", "entropy"),
            **_WARP,
        )
        by_name = dict(zip(values, warped.float().split([v.shape[1] for v in values.values()], 1), strict=True))
        by_name |= {"flow": flow.float() / _FLOW_UNIT, "confidence": confidence.float()[:, None]}
        by_name |= {"entropy": entropy.float()[:, None] / _ENTROPY_UNIT}
        middle = search.shape[-1] / 2
        axis = ((place - middle) / middle).expand(len(search), 1, side, side)
        by_name["coordinates"] = torch.cat((axis, axis.transpose(2, 3)), 1)
        inner = slice(begin, begin + count)
        maps = torch.cat([by_name[name][..., inner, inner] for name in self.names], 1)
        mask, before = by_name["mask"].flatten(1), values["mask"].flatten(1).sum(1).clamp_min(1e-6)
        sure = (mask * by_name["confidence"].flatten(1)).sum(1) / mask.sum(1).clamp_min(1e-6)
        again = (mask.sum(1) / before).clamp(0, 2)
        return Guidance(maps, torch.stack((sure, again), 1), by_name["mask"][:, 0, inner, inner])


def target_maps(boxes: torch.Tensor, place: torch.Tensor, names: list[str]) -> dict[str, torch.Tensor]:
    """The maps of a target in its own frame, name -> (N, 1 or 2, n, n).

    Args:
        boxes: (N, 4) x, y, w, h in pixels; nan: maps of 0.
        place: (n,) pixels of the cells along both sides, 8 apart.
        names: maps to make, from _OF_TARGET.
    """
    known = torch.isfinite(boxes).all(1)[:, None, None, None]
    x, y, w, h = boxes.nan_to_num().clamp(-1e6, 1e6).view(-1, 4, 1, 1, 1).unbind(1)
    w, h = w.clamp_min(1), h.clamp_min(1)
    across, down = place.view(1, 1, 1, -1), place.view(1, 1, -1, 1)

    mask = cell_coverage(x, w, across) * cell_coverage(y, h, down) * known
    right, low = x + w / 2 - across, y + h / 2 - down  # from the cell to the middle
    by_name = {}
    for name in names:
        if name == "mask":
            by_name[name] = mask
        elif name == "scaled":  # scaled to the sum of a target that covers 1/16 of the map
            scale = mask.shape[-1] ** 2 / 16 / mask.sum((2, 3), keepdim=True).clamp_min(1e-6)
            by_name[name] = mask * scale.clamp_max(16)
        elif name == "gaussian":
            by_name[name] = torch.exp(-8 * ((right / w) ** 2 + (low / h) ** 2)) * known
        elif name == "center":
            by_name[name] = (1 - right.abs() / STRIDE).clamp_min(0) * (1 - low.abs() / STRIDE).clamp_min(0) * known
        elif name == "direction":
            away = torch.cat(torch.broadcast_tensors(right, low), 1)
            by_name[name] = away / torch.linalg.vector_norm(away, dim=1, keepdim=True).clamp_min(1e-6) * mask
    return by_name


def elsewhere(
    boxes: torch.Tensor, angle: torch.Tensor, distance: torch.Tensor, other: torch.Tensor | None = None
) -> torch.Tensor:
    """Boxes (N, 4) of other objects beside given ones: moved at angle (N,), by distance (N,) times half the sum of the
    longer sides of their own and the other object's box, with that one's sides: (N, 2), or None for those of the sample
    before."""
    if other is None:
        other = boxes[:, 2:].roll(1, 0)
    away = distance * (boxes[:, 2:].amax(1) + other.amax(1)) / 2 + STRIDE
    middle = box_centers(boxes) + away[:, None] * torch.stack((angle.cos(), angle.sin()), 1)
    return torch.cat((middle - other / 2, other), 1)
