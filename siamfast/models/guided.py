"""The correspondence-guided tracker's network: depthwise correlation, an anchor-free head and an optional guide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from siamfast.geometry import STRIDE, index_to_edge, middle_by_index
from siamfast.models.backbones import BACKBONES
from siamfast.models.guidance import CHANNELS, Guidance
from siamfast.ops.xcorr import xcorr_depthwise


@dataclass(frozen=True)
class GuidedArchitecture:
    """The settings that decide the weights' shapes; saved with the weights.

    backbone: alexnet or resnet. width: channels of neck and head. guidance: names from
    siamfast.models.guidance.CHANNELS, joined by "+"; empty: no guide. gate: squeeze-and-excitation of the guidance by
    the warp's confidence. non_local: a non-local block on the fused features.
    """

    backbone: str = "alexnet"
    width: int = 96
    guidance: str = "mask+gaussian+flow+confidence+entropy"
    gate: bool = True
    non_local: bool = False

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone: got {self.backbone!r}, expected one of {', '.join(BACKBONES)}")
        if not 8 <= self.width <= 1024:
            raise ValueError(f"width: got {self.width}, expected 8 to 1024")
        unknown = [name for name in self.names if name not in CHANNELS]
        if unknown or len(set(self.names)) < len(self.names):
            raise ValueError(f"guidance: got {self.guidance!r}, expected some of {'+'.join(CHANNELS)}, each once")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the guidance maps, in order."""
        return tuple(name for name in self.guidance.split("+") if name)

    @property
    def channels(self) -> int:
        """Number of guidance maps."""
        return sum(CHANNELS[name] for name in self.names)


class GuidedTemplate(NamedTuple):
    """Features of a template, (N, width, h, w) each, for classification and for boxes; first: the search-crop pixel
    (index) of the scores' first cell."""

    classification: torch.Tensor
    regression: torch.Tensor
    first: float


class Prediction(NamedTuple):
    """scores (N, h, w), logits of the target's presence; centerness (N, h, w), logits; boxes (N, 4, h, w) left, top,
    right, bottom in search-crop pixels, counted from the edge of the first."""

    scores: torch.Tensor
    centerness: torch.Tensor
    boxes: torch.Tensor


def _conv(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class NonLocal(nn.Module):
    """x + W softmax(theta(x)^T phi(x)) g(x), W zero at the start (Wang et al. 2018, "Non-local Neural Networks")."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 4)
        self.theta, self.phi, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.back = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.back.weight)
        assert self.back.bias is not None
        nn.init.zeros_(self.back.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, C, H, W) -> the same shape."""
        q, k, v = (layer(x).flatten(2).transpose(1, 2) for layer in (self.theta, self.phi, self.value))
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        back: torch.Tensor = self.back(attended.transpose(1, 2).unflatten(2, x.shape[2:]))
        return x + back


class Fusion(nn.Module):
    """Fuses features and guidance by a 1 x 1 convolution. It starts as the identity on the features; the guidance has
    weight 0 until training gives it more."""

    def __init__(self, channels: int, architecture: GuidedArchitecture) -> None:
        super().__init__()
        maps = architecture.channels
        self.mix = nn.Conv2d(channels + maps, channels, 1)
        nn.init.zeros_(self.mix.weight)
        assert self.mix.bias is not None
        nn.init.zeros_(self.mix.bias)
        with torch.no_grad():
            self.mix.weight[:, :channels, 0, 0] = torch.eye(channels)
        self.gate: nn.Module | None = None
        if architecture.gate:
            self.gate = nn.Sequential(nn.Linear(2, 16), nn.ReLU(inplace=True), nn.Linear(16, maps))
            last = self.gate[2]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.non_local = NonLocal(channels) if architecture.non_local else None

    def forward(self, features: torch.Tensor, maps: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
        """features: (N, C, h, w); maps: (N, G, h, w); trust: (N, 2), see Guidance -> (N, C, h, w)."""
        maps = maps.to(features.dtype)
        if self.gate is not None:  # twice a sigmoid: 1 at the start
            maps = maps * 2 * torch.sigmoid(self.gate(trust.to(features.dtype)))[:, :, None, None]
        fused: torch.Tensor = self.mix(torch.cat((features, maps), 1))
        return fused if self.non_local is None else self.non_local(fused)


class GuidedSiam(nn.Module):
    """SiamFC++'s network with a third input: maps of the previous target, carried onto the search features.

    Sources: Xu et al. 2020, "SiamFC++: Towards Robust and Accurate Visual Tracking with Target Estimation Guidelines"
    (neck, depthwise correlation, head: classification, centre-ness, box as exp-scaled distances to the four sides);
    the guide is siamfast.models.guidance.

    Args:
        architecture: see GuidedArchitecture.

    >>> import torch
    >>> net = GuidedSiam().eval()
    >>> with torch.inference_mode():
    ...     template = net.template(torch.zeros(1, 3, 127, 127))
    ...     prediction = net(template, torch.zeros(1, 3, 303, 303))
    >>> prediction.scores.shape, prediction.boxes.shape, net.first_pixel(127)
    (torch.Size([1, 17, 17]), torch.Size([1, 4, 17, 17]), 87.0)
    """

    ARCHITECTURE: ClassVar[str] = "siam-guided"  # in the metadata of its weights

    def __init__(self, architecture: GuidedArchitecture | None = None) -> None:
        super().__init__()
        self.architecture = architecture or GuidedArchitecture()
        a = self.architecture
        self.backbone = BACKBONES[a.backbone]()
        channels = self.backbone.channels
        self.fusion = Fusion(channels, a) if a.names else None
        self.neck = nn.ModuleDict({name: _conv(channels, a.width) for name in ("c_z", "c_x", "r_z", "r_x")})
        convs = self.backbone.head_convs
        self.classify, self.regress = (
            nn.Sequential(*(_conv(a.width, a.width) for _ in range(convs))) for _ in range(2)
        )
        self.score, self.centerness, self.sides = (
            nn.Conv2d(a.width, 1, 1),
            nn.Conv2d(a.width, 1, 1),
            nn.Conv2d(a.width, 4, 1),
        )
        # A side is exp(box_scale * raw + box_bias) strides: 4 at the start, half of a target of 64 pixels.
        self.box_scale, self.box_bias = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.4))
        for layer in (self.score, self.centerness, self.sides):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        assert self.score.bias is not None
        nn.init.constant_(self.score.bias, -2.2)  # one cell in ten is the target's, as in Lin et al. 2017, section 4.1

    # --------------------------------------------------------------------------------------------------------- geometry
    def cells(self, template: int, search: int) -> int:
        """Cells along a side of the scores, for crops of these sides in pixels.

        >>> GuidedSiam().cells(127, 303), GuidedSiam(GuidedArchitecture("resnet")).cells(127, 289)
        (17, 17)
        """
        neck = [self.backbone.cells(side) - 2 for side in (search, template)]
        count = neck[0] - neck[1] + 1 - 2 * self.backbone.head_convs
        if min(neck) < 1 or count < 1:
            raise ValueError(f"search: got {search} pixels, too few for a template of {template}")
        return count

    def first_pixel(self, template: int) -> float:
        """The search-crop pixel (index) of the template's middle at the first cell; cell i is 8 i further.

        Backbone and neck treat both crops alike, so their offsets cancel: at shift 0 the crops coincide. Only the
        head's unpadded convolutions remain.
        """
        return middle_by_index(template) + STRIDE * self.backbone.head_convs

    def places(self, template: int, search: int) -> torch.Tensor:
        """(cells,) float32: pixel indices of the scores' cells along a side."""
        return self.first_pixel(template) + STRIDE * torch.arange(self.cells(template, search), dtype=torch.float32)

    # ---------------------------------------------------------------------------------------------------------- forward
    def template(self, images: torch.Tensor) -> GuidedTemplate:
        """Embed templates: images (N, 3, S, S), RGB 0..255."""
        features = self.backbone(images)
        return GuidedTemplate(
            self.neck["c_z"](features), self.neck["r_z"](features), self.first_pixel(images.shape[-1])
        )

    def forward(self, template: GuidedTemplate, search: torch.Tensor, guidance: Guidance | None = None) -> Prediction:
        """Predict the place of the template's target.

        Args:
            template: of N images, or of 1 for all.
            search: (N, 3, S, S), RGB 0..255.
            guidance: siamfast.models.guidance.Guidance for the same crops; None: no guidance, as if all maps were 0.

        Raises:
            ValueError: guidance for a network without a guide.
        """
        features = self.backbone(search)
        if guidance is not None and self.fusion is None:
            raise ValueError("guidance: got one, but these weights are of an unguided network")
        if self.fusion is not None:
            count, size = len(search), features.shape[2:]
            if guidance is None:
                maps, trust = features.new_zeros(count, self.architecture.channels, *size), features.new_zeros(count, 2)
            else:
                maps, trust = guidance.maps, guidance.trust
            features = self.fusion(features, maps, trust)
        classified = self.classify(_correlate(template.classification, self.neck["c_x"](features)))
        regressed = self.regress(_correlate(template.regression, self.neck["r_x"](features)))
        sides = torch.exp(self.box_scale * self.sides(regressed).float() + self.box_bias).clamp(max=1e4) * STRIDE
        # Counted from the edge of the first pixel: the index plus a half.
        cells = torch.arange(sides.shape[-1], dtype=torch.float32, device=sides.device)
        place = index_to_edge(template.first + STRIDE * cells)
        x, y = place.view(1, 1, 1, -1), place.view(1, 1, -1, 1)
        boxes = torch.cat((x - sides[:, :1], y - sides[:, 1:2], x + sides[:, 2:3], y + sides[:, 3:]), 1)
        return Prediction(self.score(classified)[:, 0].float(), self.centerness(classified)[:, 0].float(), boxes)


def _correlate(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    response: torch.Tensor = xcorr_depthwise(z, x)
    return response
