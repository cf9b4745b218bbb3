"""The raw correlations in ONNX: matrix products, slices and sums, which every runtime has.

Trackers usually export a grouped convolution with weights computed at run time, which converters to TensorRT and others
refuse. PyTorch's ONNX exporter takes these functions from its table of decompositions; `torch.export` itself and
`torch.compile` keep the ops whole.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from siamfast.ops.xcorr.call import XcorrCall


def full(z: torch.Tensor, x: torch.Tensor, *arguments: Any) -> torch.Tensor:  # the raw op's
    """G = z^T x, then the sum of its shifted windows, one per template cell."""
    call = XcorrCall.of(z, x, *arguments)
    _, _, scale, bias, (alpha, beta, ph, pw, all_pairs) = call
    nz, _, hz, wz = z.shape
    channels, per_template = x.shape[1], call.per_template
    x = F.pad(x, (pw, pw, ph, ph)) if ph or pw else x
    nx, _, height, width = x.shape
    ho, wo = height - hz + 1, width - wz + 1
    kernels = z.reshape(nz, per_template, channels, hz * wz).transpose(2, 3)
    if all_pairs:
        rows, cells = kernels.reshape(1, nz * per_template * hz * wz, channels), x.flatten(2)
    else:
        rows = kernels.reshape(nz, per_template * hz * wz, channels)
        cells = x.reshape(-1, nz, channels, height * width)
    products = torch.matmul(rows, cells).reshape(nx, -1, hz * wz, height, width)
    response = sum(products[:, :, i * wz + j, i : i + ho, j : j + wo] for i in range(hz) for j in range(wz))
    assert isinstance(response, torch.Tensor)
    response = (response * alpha).reshape(nx, -1, per_template, ho, wo)
    response = response if scale is None else response * scale.reshape(-1, 1, 1)
    response = response if bias is None else response + bias.reshape(-1, 1, 1)
    return (response + beta).reshape(nx, -1, ho, wo).to(x.dtype)


def depthwise(z: torch.Tensor, x: torch.Tensor, ph: int, pw: int) -> torch.Tensor:
    """z: (Nz, C, Hz, Wz), x: (k*Nz, C, Hx, Wx) -> (k*Nz, C, Ho, Wo): windows of x times one template cell each."""
    nz, channels, hz, wz = z.shape
    x = F.pad(x, (pw, pw, ph, ph)) if ph or pw else x
    nx, _, height, width = x.shape
    ho, wo = height - hz + 1, width - wz + 1
    cells = x.reshape(-1, nz, channels, height, width)
    response = sum(
        cells[..., i : i + ho, j : j + wo] * z[:, :, i : i + 1, j : j + 1] for i in range(hz) for j in range(wz)
    )
    assert isinstance(response, torch.Tensor)
    return response.reshape(nx, channels, ho, wo)
