"""SiamFC's backbone in 8 bits for CPUs with VNNI: uint8 activations, int8 weights, 32-bit sums (oneDNN)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from siamfast.instructions import int8_missing, onednn_operator
from siamfast.models.alexnet import LAYERS
from siamfast.models.fused import FusedAlexNet

# Headroom above the largest activation of the calibration images: later frames may be brighter or sharper. Larger
# values are clipped. With it int8 tracks the real sequences of docs/weights.md as well as float32.
HEADROOM = 1.25


def _max_pool(x: torch.Tensor) -> torch.Tensor:
    """3/2 max pool of x: (N, C, H, W) uint8. (F.max_pool2d refuses 8-bit planes of more than 255 cells.)"""
    return torch.ops.quantized.max_pool2d(x, [3, 3], [2, 2], [0, 0], [1, 1], False)


class QuantizedAlexNet:
    """FusedAlexNet with uint8 activations (one scale per layer) and int8 weights (one scale per output channel).

    The image is 0..255 already, so the first layer's input is exact; ReLU makes every later input non-negative, so no
    zero point is needed. The features are float32. Measured on 2 Zen 5 cores, three 255-pixel crops: 9 ms against
    20 in bfloat16 and 46 in float32.

    Args:
        network: the fused backbone, float32, on the CPU.
        images: (N, 3, H, W) uint8, RGB; they set the ranges of the activations.

    Raises:
        ValueError: this machine cannot run it (`int8_missing`), or `images` is not such a batch.
    """

    def __init__(self, network: FusedAlexNet, images: torch.Tensor) -> None:
        missing = int8_missing()
        if missing is not None:
            raise ValueError(f"precision: got 'int8', but {missing}")
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[0] == 0:
            raise ValueError(
                f"images: got {images.dtype} of shape {tuple(images.shape)}, expected uint8 (N, 3, H, W), N > 0"
            )
        parts = network.parts()
        if parts[0][0].dtype != torch.float32 or parts[0][0].device.type != "cpu":
            raise ValueError("network: expected float32 on the CPU")
        self._convolve = onednn_operator("qconv_pointwise", "qconv2d_pointwise")
        ranges = [float(a.amax()) * HEADROOM for a in network.activations(images)[:-1]]
        # scales[i]: real value of one step in the input of convolution i. A layer with no activation here still needs
        # one.
        self._scales = [1.0, *(max(r, 1e-6) / 255 for r in ranges)]
        self._weights, self._steps, self._biases = [], [], []
        for (weight, bias), scale, layer in zip(parts, self._scales, LAYERS, strict=True):
            step = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
            packed = (weight / step.view(-1, 1, 1, 1)).round_().clamp_(-127, 127).to(torch.int8)
            stride, groups = [layer[3]] * 2, layer[4]
            self._weights.append(
                torch.ops.onednn.qconv_prepack(packed, step, scale, 0, stride, [0, 0], [1, 1], groups, None)
            )
            self._steps.append(step)
            self._biases.append(bias)
        self._zero = [torch.zeros(s.numel(), dtype=torch.int64) for s in self._steps]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """images: (N, 3, H, W) uint8 RGB, best in channels_last -> features (N, 256, h, w), float32."""
        if images.dtype != torch.uint8:
            raise TypeError(f"images: got {images.dtype}, expected torch.uint8")
        x = images
        last = len(LAYERS) - 1
        for i, (_, _, _, stride, groups, pool) in enumerate(LAYERS):
            x = self._convolve(
                x,
                self._scales[i],
                0,
                self._weights[i],
                self._steps[i],
                self._zero[i],
                self._biases[i],
                [stride] * 2,
                [0, 0],
                [1, 1],
                groups,
                1.0 if i == last else self._scales[i + 1],
                0,
                torch.float32 if i == last else torch.uint8,
                "none" if i == last else "relu",
                [],
                "",
            )
            if pool:
                x = _max_pool(x)
        return x


def feature_error(network: FusedAlexNet, quantized: QuantizedAlexNet, images: torch.Tensor) -> float:
    """Relative RMS difference of the 8-bit features from the float ones: about 0.02 to 0.04 for trained weights."""
    exact = network(images)
    return float(F.mse_loss(quantized(images), exact).sqrt() / exact.square().mean().sqrt().clamp_min(1e-12))
