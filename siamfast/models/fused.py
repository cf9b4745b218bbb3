"""SiamFC's backbone for inference: BatchNorm and the input's normalisation folded into the convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from siamfast.models.alexnet import LAYERS
from siamfast.models.siamfc import SiamFC


class FusedAlexNet(nn.Module):
    """The backbone of a trained SiamFC as five plain convolutions with ReLU and pooling; inference only.

    It takes RGB 0..255 whatever the model's normalisation. `fuse` builds it; `.to(torch.bfloat16)` and `.cuda()` work
    as on any module.
    """

    def __init__(self, weights: list[torch.Tensor], biases: list[torch.Tensor]) -> None:
        super().__init__()
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            self.register_buffer(f"weight{i + 1}", weight.contiguous(memory_format=torch.channels_last))
            self.register_buffer(f"bias{i + 1}", bias)

    def parts(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The (weight, bias) of every convolution."""
        return [(self.get_buffer(f"weight{i + 1}"), self.get_buffer(f"bias{i + 1}")) for i in range(len(LAYERS))]

    def activations(self, images: torch.Tensor) -> list[torch.Tensor]:
        """images: (N, 3, H, W), RGB 0..255 -> the input of every convolution after the first, then the features."""
        parts = self.parts()
        x = images.to(parts[0][0].dtype)
        outputs = []
        for i, ((weight, bias), (_, _, _, stride, groups, pool)) in enumerate(zip(parts, LAYERS, strict=True)):
            x = F.conv2d(x, weight, bias, stride, groups=groups)
            if i < len(parts) - 1:
                x = F.relu_(x)
            if pool:
                x = F.max_pool2d(x, 3, 2)
            outputs.append(x)
        return outputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: (N, 3, H, W), RGB 0..255, uint8 or floating -> features (N, 256, h, w), float32.

        The result is float32 whatever the inner precision: the correlation adds 9,216 products, and a bfloat16 response
        would move the peak.
        """
        return self.activations(images)[-1].float()


def fuse(model: SiamFC) -> FusedAlexNet:
    """Fold BatchNorm (its running statistics) and the input's normalisation into the convolutions; exact.

    w' = w * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps) + beta; the first layer also takes
    (x - m) / s into w'' = w' / s, b'' = b' - sum w'' m, exact because nothing is padded. `model` is not changed.

    >>> import torch
    >>> from siamfast.models.siamfc import SiamFC
    >>> model, images = SiamFC(input_mean=120.0, input_std=60.0).eval(), torch.rand(1, 3, 127, 127) * 255
    >>> torch.allclose(fuse(model)(images), model.embed(images), atol=1e-4)
    True
    """
    weights: list[torch.Tensor] = []
    biases: list[torch.Tensor] = []
    with torch.no_grad():
        for stage in model.backbone.stages:
            conv = stage[0]
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            weight, bias = conv.weight.double(), conv.bias.double()
            if len(stage) > 1:
                norm = stage[1]
                assert isinstance(norm, nn.BatchNorm2d)
                assert norm.running_mean is not None
                assert norm.running_var is not None
                gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
                weight = weight * gain.view(-1, 1, 1, 1)
                bias = (bias - norm.running_mean.double()) * gain + norm.bias.double()
            if not weights:
                weight = weight / model.input_std.double()
                bias = bias - (weight * model.input_mean.double()).sum((1, 2, 3))
            weights.append(weight.float())
            biases.append(bias.float())
    return FusedAlexNet(weights, biases).eval()
