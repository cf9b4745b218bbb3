"""The mobile tracker's networks as graphs for inference engines: norms folded, only plain operators."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from siamfast.geometry import STRIDE, box_centers, cell_coverage, index_to_edge
from siamfast.models.mobile import EXEMPLAR, INSTANCE, KERNEL, MARGIN, REGION, SiamMobile
from siamfast.models.onnx_export import Network

TARGET = ("kernel", "sides", "keys", "values")  # the template's outputs, and the search's inputs beside its image
RANKS = {"image": 4, "kernel": 3, "sides": 2, "keys": 3, "values": 3, "known": 2}  # of the search's inputs
OUTPUTS = ("quality", "boxes", "resemblance", "embedding")
_SIDE = 64.0  # of the box that is traced


def networks(model: SiamMobile, batch: int) -> tuple[Network, Network]:
    """The networks of the first frame and of every later one, for `batch` targets a call, ready to export."""

    def images(side: int) -> torch.Tensor:
        return torch.zeros(batch, side, side, 3, dtype=torch.uint8)

    corner = (EXEMPLAR - _SIDE) / 2
    box = torch.tensor([[corner, corner, _SIDE, _SIDE]]).repeat(batch, 1)
    template = Network(TemplateGraph(model), {"image": images(EXEMPLAR), "box": box}, TARGET)
    with torch.no_grad():
        target = dict(zip(TARGET, template.module(*template.inputs.values()), strict=True))
    known = torch.ones(batch, 2 if model.architecture.guided else 1)
    inputs = {"image": images(INSTANCE), **target, "known": known}
    return template, Network(SearchGraph(model, INSTANCE), inputs, OUTPUTS)


class SearchGraph(nn.Module):
    """SiamMobile.forward from uint8 crops to qualities and boxes; R regions: the template's and, in a guided network,
    the last frame's.

    Args:
        model: in eval mode; a copy is made, with BatchNorms and input normalisation folded into convolutions.
        instance: side of the search crop, pixels.
    """

    maps: torch.Tensor
    places: torch.Tensor
    signs: torch.Tensor

    def __init__(self, model: SiamMobile, instance: int) -> None:
        super().__init__()
        m = copy.deepcopy(model).eval().float().cpu()
        self.width, self.regions = m.architecture.width, 2 if m.architecture.guided else 1
        self.backbone = m.backbone
        self.fine, self.coarse = (_behind(norm, conv) for norm, conv in zip(m.norms, (m.fine, m.coarse), strict=True))
        self.search = nn.Sequential(_fold(m.search[0], m.search[1]), _fold(m.search[2], m.search[3]), nn.ReLU())
        # The merge has three kinds of maps; the first is in the input `kernel`, except for the shift of its norm.
        merge = _fold(m.merge[0], m.merge[1])
        mean, gain = _moments(m.match_norm)
        first, self.inner = KERNEL**2, nn.Conv2d(self.width, self.width, 1)
        self.inner.weight.data = merge.weight.data[:, first : first + self.width]
        # In float64: sums in float32 depend on the CPU, and a graph made here would not be the shipped one to the bit.
        shift = merge.weight.data[:, :first, 0, 0].double() @ (gain * mean).double()
        _bias(self.inner).copy_(_bias(merge).double() - shift)
        self.register_buffer("maps", merge.weight.data[:, first + self.width :, 0, 0])
        self.trunk = nn.ModuleList(_fold_separable(block) for block in m.trunk)
        self.classify, self.regress = _fold_separable(m.classify), _fold_separable(m.regress)
        self.judge = nn.Conv2d(self.width, 2, 1)
        self.judge.weight.data = torch.cat((m.score.weight.data, m.centerness.weight.data))
        _bias(self.judge).copy_(torch.cat((_bias(m.score), _bias(m.centerness))))
        self.sides = m.sides
        self.sides.weight.data *= m.box_scale.data
        _bias(self.sides).mul_(m.box_scale.data).add_(m.box_bias.data)
        place = index_to_edge(m.places(instance))
        across = torch.stack(torch.meshgrid(place, place, indexing="xy"))
        self.register_buffer("places", torch.cat((across, across))[None])
        self.register_buffer("signs", torch.tensor([-1.0, -1, 1, 1]).view(1, 4, 1, 1))
        self.eval()

    def forward(
        self,
        image: torch.Tensor,
        kernel: torch.Tensor,
        sides: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        known: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Locate each of N targets in its own search crop.

        Args:
            image: (N, S, S, 3) uint8 RGB.
            kernel: (N, width, width), the correlation with the template's 49 cells, folded with the merge of its maps.
            sides: (N, 2), of the template's box, crop pixels.
            keys: (N, width, R * 169), unit length, times the sharpness.
            values: (N, R * 169, R * 3), each region's in its own columns, 0 elsewhere.
            known: (N, R) 1, or 0 for an unknown region.

        Returns:
            quality (N, h, w) 0 to 1, boxes (N, 4, h, w) left, top, right, bottom in crop pixels, resemblance (N, h, w)
            and embedding (N, width, H, W) as in Located.
        """
        fine, coarse = self.backbone(image.permute(0, 3, 1, 2).float())
        up = F.interpolate(self.coarse(coarse), size=fine.shape[2:], mode="bilinear", align_corners=True)
        embedding = self.fine(fine) + up
        inner = embedding[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
        size = inner.shape[2:]
        x = self.inner(inner) + (kernel @ self.search(embedding).flatten(2)).unflatten(2, size)
        rows = F.normalize(inner.flatten(2), dim=1).transpose(1, 2)  # (N, cells, width)
        weights = torch.softmax((rows @ keys).unflatten(2, (self.regions, -1)), 3)  # (N, cells, R, 169)
        mask, across, down = (weights.flatten(2) @ values).unflatten(2, (self.regions, 3)).unbind(3)  # (N, cells, R)
        clamped = mask.clamp(1e-4, 1 - 1e-4)
        odds = (torch.log(clamped) - torch.log(1 - clamped)) / 4
        maps = torch.stack((mask, odds, across, down, weights.amax(3)), 3) * known[..., None, :, None]
        x = F.relu(x + (self.maps @ maps.flatten(2).transpose(1, 2)).unflatten(2, size))
        for block in self.trunk:
            x = x + block(x)
        judged = torch.sigmoid(self.judge(self.classify(x)))
        raw = torch.exp(self.sides(self.regress(x)).clamp(max=4.0))
        half = torch.cat((sides, sides), 1).view(-1, 4, 1, 1) / 2
        resemblance = mask[..., 0].unflatten(1, size)
        return judged[:, 0] * judged[:, 1], self.places + self.signs * raw * half, resemblance, embedding


class TemplateGraph(nn.Module):
    """SiamMobile.template for N targets, in the layout of SearchGraph's inputs; `known` is 1 for all regions.

    Args:
        model: in eval mode; a copy is made.
    """

    columns: torch.Tensor
    places: torch.Tensor

    def __init__(self, model: SiamMobile) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().float().cpu()
        self.regions = 2 if model.architecture.guided else 1
        self.first = ((EXEMPLAR - 1) // STRIDE + 1 - REGION) // 2  # the region's first cell along a side
        self.register_buffer("columns", _kernel_columns(self.model))
        self.register_buffer("places", index_to_edge(STRIDE * (self.first + torch.arange(REGION).float())))

    def forward(
        self, image: torch.Tensor, box: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """image: (N, 129, 129, 3) uint8 RGB; box: (N, 4) x, y, w, h in it -> kernel (N, width, width), sides (N, 2),
        keys (N, width, R * 169), values (N, R * 169, R * 3); the last frame's region is the template's."""
        net, region = self.model, slice(self.first, self.first + REGION)
        embedding = net.embed(net.backbone(image.permute(0, 3, 1, 2).float()))[..., region, region]
        values = self._values(box)
        cut = (REGION - KERNEL) // 2 - 1
        kernel = net.kernel(torch.cat((embedding, values), 1)[..., cut : REGION - cut, cut : REGION - cut])
        keys = F.normalize(embedding, dim=1).flatten(2)
        rows = values.flatten(2).transpose(1, 2)  # (N, 169, 3)
        others = [F.pad(rows, (3 * i, 3 * (self.regions - 1 - i))) for i in range(self.regions)]
        return (
            self.columns @ kernel.flatten(2).transpose(1, 2),
            box[:, 2:],
            torch.cat([keys * torch.exp(sharpness) for sharpness in net.sharpness], 2),
            torch.cat(others, 1),
        )

    def _values(self, box: torch.Tensor) -> torch.Tensor:
        """(N, 3, 13, 13): `region_values` in PyTorch, because a graph has no NumPy."""
        half = (box[:, 2:, None] / 2).clamp(min=0.5)
        middle = box_centers(box)[..., None]
        near = cell_coverage(middle - half, 2 * half, self.places)  # (N, 2, 13)
        scaled = ((self.places - middle) / half).clamp(-2, 2)
        across, down = scaled[:, 0, None].expand(-1, REGION, -1), scaled[:, 1, :, None].expand(-1, -1, REGION)
        return torch.stack((near[:, 1, :, None] * near[:, 0, None], across, down), 1)


def _kernel_columns(model: SiamMobile) -> torch.Tensor:
    """(width, 49): what the merge makes of the correlation's maps. Their norm is a factor and a shift per map; the
    shift goes into the graph's own bias."""
    weight = _fold(model.merge[0], model.merge[1]).weight
    return weight[:, : KERNEL**2, 0, 0] * _moments(model.match_norm)[1]


def _fold(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    """The convolution with the following BatchNorm folded in."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    folded: nn.Conv2d = nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
    return folded


def _fold_separable(block: nn.Module) -> nn.Sequential:
    assert isinstance(block, nn.Sequential)
    return nn.Sequential(_fold(block[0], block[1]), _fold(block[2], block[3]), nn.ReLU())


def _behind(norm: nn.Module, conv: nn.Conv2d) -> nn.Conv2d:
    """A 1 x 1 convolution with the preceding BatchNorm, without affine parameters, folded in."""
    mean, gain = _moments(norm)
    weight = conv.weight.data * gain.view(1, -1, 1, 1)
    _bias(conv).sub_((weight[..., 0, 0] * mean).sum(1))
    conv.weight.data = weight
    return conv


def _moments(norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and reciprocal deviation of a BatchNorm in eval mode: (C,) each."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, torch.rsqrt(norm.running_var + norm.eps)


def _bias(conv: nn.Conv2d) -> torch.Tensor:
    assert conv.bias is not None
    return conv.bias.data
