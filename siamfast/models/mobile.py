"""The mobile tracker's network: MobileNetV2 features matched by correlation and cell by cell, and a head for boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from siamfast.geometry import STRIDE, box_centers, index_to_edge
from siamfast.models.guided import Prediction
from siamfast.models.mobilenet import COARSE_CHANNELS, FINE_CHANNELS, Features, MobileNetV2
from siamfast.ops.correspondence_warp import correspondence_warp
from siamfast.ops.xcorr import xcorr_pixelwise

# Sides of a tracker's crops, pixels: 16n + 1, so that the first and last cells are on the first and last pixels.
EXEMPLAR, INSTANCE = 129, 161
KERNEL = 7  # template cells along a side, each correlated with the search on its own
MARGIN = 1  # cells lost to an unpadded 3 x 3 convolution at each border
REGION = 13  # cells along a side of a region: the target of a template crop and some context
_VALUES = 3  # values per cell of a region: whether it is the target's, and its place in the target, x and y
_MAPS = 5  # maps per match: mask, its log-odds, place x and y, confidence


@dataclass(frozen=True)
class MobileArchitecture:
    """The settings that decide the weights' shapes; saved with the weights.

    width: channels of the embedding and the head. blocks: number of blocks in the head's common trunk. guided: whether
    the last frame's region is matched beside the template's.
    """

    width: int = 64
    blocks: int = 3
    guided: bool = True

    def __post_init__(self) -> None:
        if not 8 <= self.width <= 1024:
            raise ValueError(f"width: got {self.width}, expected 8 to 1024")
        if not 1 <= self.blocks <= 16:
            raise ValueError(f"blocks: got {self.blocks}, expected 1 to 16")


class Region(NamedTuple):
    """Cells around a target, and their relation to it.

    embedding: (N, C, 13, 13). values: (N, 3, 13, 13): the share of each cell inside the target's box, and x, y of the
    cell from the box's middle in half sides, within -2 and 2.
    """

    embedding: torch.Tensor
    values: torch.Tensor


class MobileTemplate(NamedTuple):
    """The target in the first frame.

    kernel: (N, width, 7, 7) for the correlation, cell by cell. region: for the matching. sides: (N, 2) width and height
    of the box in pixels of the template crop; the head predicts multiples of them."""

    kernel: torch.Tensor
    region: Region
    sides: torch.Tensor


class Located(NamedTuple):
    """The network's output for a search crop.

    prediction: scores, centre-ness and boxes. resemblance: (N, h, w), how far each of the scores' cells resembles the
    template's target rather than the template's background, 0 to 1; the last frame has no part in it. embedding:
    (N, width, H, W) of the whole crop, from which the next frame's region is cut."""

    prediction: Prediction
    resemblance: torch.Tensor
    embedding: torch.Tensor


def region_values(boxes: NDArray[np.floating], first: NDArray[np.floating]) -> NDArray[np.floating]:
    """The values of a region's cells for a target: (N, 3, 13, 13), see Region.

    In NumPy, because a tracker computes them for every frame, and on so few numbers it takes a fifth of PyTorch's time.

    Args:
        boxes: (N, 4) x, y, w, h in crop pixels, from the edge of the first.
        first: (N, 2) x, y of the region's first cell in crop pixels, by index (the centre of pixel 0 is 0).
    """
    half = np.maximum(boxes[:, 2:, None] / 2, 0.5)
    place = index_to_edge(first[:, :, None] + STRIDE * np.arange(REGION)) - box_centers(boxes)[:, :, None]
    # The share of an 8-pixel cell within half a side of the middle, along each axis.
    near = np.clip(half + STRIDE / 2 - np.abs(place), 0, np.minimum(2 * half, STRIDE)) / STRIDE
    scaled = np.clip(place / half, -2, 2)
    values = np.empty((len(boxes), _VALUES, REGION, REGION), boxes.dtype)
    values[:, 0] = near[:, 1, :, None] * near[:, 0, None, :]
    values[:, 1], values[:, 2] = scaled[:, 0, None, :], scaled[:, 1, :, None]
    return values


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class SiamMobile(nn.Module):
    """A light anchor-free siamese tracker over features learned on ImageNet.

    One head combines three matches: a correlation with every cell of the template's middle (Yan et al. 2021,
    "LightTrack"), whose maps the head's convolutions combine; the softmax affinity of every search cell to the
    template's cells, which gives the part of the target, or the background, that the cell resembles; and the same with
    the region around the target in the last frame, a guide that needs no second network because the tracker has its
    features already. The template's box is an input: its cells are marked as target or background, and the predicted
    boxes are multiples of its sides (l, t, r, b as in FCOS; Tian et al. 2019).

    Args:
        architecture: see MobileArchitecture.

    >>> import torch
    >>> net = SiamMobile().eval()
    >>> with torch.inference_mode():
    ...     template = net.template(torch.zeros(1, 3, 129, 129), torch.tensor([[32.5, 32.5, 64, 64]]))
    ...     located = net(template, torch.zeros(1, 3, 161, 161))
    >>> located.prediction.scores.shape, located.prediction.boxes.shape
    (torch.Size([1, 19, 19]), torch.Size([1, 4, 19, 19]))
    """

    ARCHITECTURE: ClassVar[str] = "siam-mobile"  # in the metadata of its weights

    def __init__(self, architecture: MobileArchitecture | None = None) -> None:
        super().__init__()
        self.architecture = architecture or MobileArchitecture()
        width, maps = self.architecture.width, _MAPS * (2 if self.architecture.guided else 1)
        self.backbone = MobileNetV2()
        # Without affine parameters, because the projections after them have their own. They learn the features' mean
        # and deviation, also for a frozen backbone.
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, affine=False) for c in (FINE_CHANNELS, COARSE_CHANNELS))
        self.fine, self.coarse = nn.Conv2d(FINE_CHANNELS, width, 1), nn.Conv2d(COARSE_CHANNELS, width, 1)
        self.kernel = nn.Sequential(
            nn.Conv2d(width + _VALUES, width, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1),
        )
        self.search = nn.Sequential(
            nn.Conv2d(width, width, 3, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        # exp(sharpness) is the factor on cosines before the softmax; 1 / 0.07 at the start.
        self.sharpness = nn.Parameter(torch.full((2 if self.architecture.guided else 1,), 2.66))
        self.match_norm = nn.BatchNorm2d(KERNEL**2, affine=False)
        self.merge = nn.Sequential(
            nn.Conv2d(KERNEL**2 + width + maps, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.trunk = nn.ModuleList(_separable(width) for _ in range(self.architecture.blocks))
        self.classify, self.regress = _separable(width), _separable(width)
        self.score, self.centerness, self.sides = (nn.Conv2d(width, n, 1) for n in (1, 1, 4))
        self.box_scale, self.box_bias = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.0))
        for layer in (self.score, self.centerness, self.sides):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        assert self.score.bias is not None
        nn.init.constant_(self.score.bias, -2.2)  # one cell in ten is the target's, as in Lin et al. 2017, section 4.1

    # --------------------------------------------------------------------------------------------------------- geometry
    @staticmethod
    def cells(search: int) -> int:
        """Cells along a side of the scores for a search crop of this side in pixels.

        >>> SiamMobile.cells(161)
        19
        """
        count = (search - 1) // STRIDE + 1 - 2 * MARGIN
        if search % 16 != 1 or count + 2 * MARGIN < REGION:
            raise ValueError(f"search: got {search} pixels, expected a multiple of 16 and 1 more, 97 or more")
        return count

    @classmethod
    def places(cls, search: int) -> torch.Tensor:
        """(cells,) float32: search-crop pixels, by index, of the scores' cells along a side."""
        return STRIDE * (MARGIN + torch.arange(cls.cells(search), dtype=torch.float32))

    # ---------------------------------------------------------------------------------------------------------- forward
    def embed(self, features: Features) -> torch.Tensor:
        """(N, width, h, w) of stride 8, cell i at pixel 8i: one embedding of both resolutions of the backbone."""
        fine, coarse = (norm(f) for norm, f in zip(self.norms, features, strict=True))
        up = F.interpolate(self.coarse(coarse), size=fine.shape[2:], mode="bilinear", align_corners=True)
        return self.fine(fine) + up

    def template(self, images: torch.Tensor, boxes: torch.Tensor, features: Features | None = None) -> MobileTemplate:
        """Make the template of a target.

        Args:
            images: (N, 3, 129, 129), RGB 0..255, floating.
            boxes: (N, 4) x, y, w, h of the target in them, pixels from the edge of the first.
            features: the backbone's, if already computed.
        """
        region = self.region(images, boxes, features)
        cut = (REGION - KERNEL) // 2 - 1
        middle = torch.cat(region, 1)[..., cut : REGION - cut, cut : REGION - cut]
        return MobileTemplate(self.kernel(middle.to(region.embedding.dtype)), region, boxes[:, 2:])

    def region(self, images: torch.Tensor, boxes: torch.Tensor, features: Features | None = None) -> Region:
        """The region in the middle of a crop of the template's size; arguments as for `template`."""
        embedding = self.embed(self.backbone(images) if features is None else features)
        first = (embedding.shape[-1] - REGION) // 2
        middle = embedding[..., first : first + REGION, first : first + REGION]
        values = region_values(boxes.detach().cpu().numpy(), np.full((len(boxes), 2), first * STRIDE))
        return Region(middle, torch.from_numpy(values).to(middle.device, torch.float32))

    def forward(
        self,
        template: MobileTemplate,
        search: torch.Tensor,
        last: Region | None = None,
        features: Features | None = None,
        known: torch.Tensor | None = None,
    ) -> Located:
        """Predict the place of the template's target.

        Args:
            template: of N images, or of 1 for all.
            search: (N, 3, S, S), RGB 0..255, floating; S = 16n + 1.
            last: the target's region in the last frame; None: unknown, without a guide.
            features: the backbone's, if already computed.
            known: (N,) bool: the searches with a known `last`; None: all.
        """
        embedding = self.embed(self.backbone(search) if features is None else features)
        inner = embedding[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
        kernel, region = template.kernel, template.region
        if len(kernel) == 1 < len(search):
            region = Region(*(part.expand(len(search), -1, -1, -1) for part in region))
        whole = self.match_norm(xcorr_pixelwise(kernel, self.search(embedding)))
        match = self._match(inner, region, 0)
        maps = [whole, inner, match]
        if self.architecture.guided:
            guide = (
                inner.new_zeros(len(inner), _MAPS, *inner.shape[2:]) if last is None else self._match(inner, last, 1)
            )
            maps.append(guide if known is None else guide * known.to(guide.dtype)[:, None, None, None])
        x = self.merge(torch.cat(maps, 1))
        for block in self.trunk:
            x = x + block(x)
        classified, regressed = self.classify(x), self.regress(x)
        prior = torch.cat((template.sides, template.sides), 1)[:, :, None, None] / 2
        sides = torch.exp((self.box_scale * self.sides(regressed).float() + self.box_bias).clamp(max=4.0)) * prior
        cells = torch.arange(sides.shape[-1], dtype=torch.float32, device=sides.device)
        place = index_to_edge(STRIDE * (MARGIN + cells))
        x_, y_ = place.view(1, 1, 1, -1), place.view(1, 1, -1, 1)
        boxes = torch.cat((x_ - sides[:, :1], y_ - sides[:, 1:2], x_ + sides[:, 2:3], y_ + sides[:, 3:]), 1)
        scores, centerness = self.score(classified)[:, 0].float(), self.centerness(classified)[:, 0].float()
        return Located(Prediction(scores, centerness, boxes), match[:, 0], embedding)

    def _match(self, query: torch.Tensor, region: Region, index: int) -> torch.Tensor:
        """(N, 5, h, w): the part of the region's target that each cell of the query resembles."""
        sharp = F.normalize(query.float(), dim=1) * torch.exp(self.sharpness[index])
        warped, confidence = correspondence_warp(
            sharp,
            F.normalize(region.embedding.float(), dim=1),
            region.values,
            temperature=1.0,
            normalize=False,
            returns=("values", "confidence"),
        )
        mask = warped[:, :1]
        odds = torch.logit(mask.clamp(1e-4, 1 - 1e-4)) / 4
        return torch.cat((mask, odds, warped[:, 1:], confidence[:, None]), 1).to(query.dtype)
