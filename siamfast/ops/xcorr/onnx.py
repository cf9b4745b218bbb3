"""The raw correlations in ONNX, in operators that every runtime has.

`xcorr` is matrix products, slices and sums. `xcorr_depthwise` is a grouped convolution whose weights are an input:
onnxruntime runs that fastest. Converters that want constant weights (ncnn, older TensorRT) refuse it; `sliced_onnx`
gives them slices, products and sums. PyTorch's ONNX exporter takes these functions from its table of decompositions;
`torch.export` itself and `torch.compile` keep the ops whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from siamfast.ops.xcorr.call import DepthwiseCall, XcorrCall

_sliced = False


@contextmanager
def sliced_onnx() -> Iterator[None]:
    """Within the block `torch.onnx.export` writes `xcorr_depthwise` without a convolution: as slices, products, sums.

    For converters that refuse a convolution whose weights are not constant. In onnxruntime the convolution, which is
    written otherwise, is faster.

    >>> import siamfast.compat
    >>> with siamfast.compat.sliced_onnx():
    ...     pass  # torch.onnx.export(model, (z, x), "model.onnx", dynamo=True)
    """
    global _sliced
    before, _sliced = _sliced, True
    try:
        yield
    finally:
        _sliced = before


def full(z: torch.Tensor, x: torch.Tensor, *arguments: Any) -> torch.Tensor:  # the raw op's
    """G = z^T x, then the sum of its shifted windows, one per template cell."""
    call = XcorrCall.of(z, x, *arguments)
    _, _, scale, bias, (scale_constant, bias_constant, pad_y, pad_x, all_pairs) = call
    nz, _, hz, wz = z.shape
    channels, per_template = x.shape[1], call.per_template
    x = F.pad(x, (pad_x, pad_x, pad_y, pad_y)) if pad_y or pad_x else x
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
    response = (response * scale_constant).reshape(nx, -1, per_template, ho, wo)
    response = response if scale is None else response * scale.reshape(-1, 1, 1)
    response = response if bias is None else response + bias.reshape(-1, 1, 1)
    return (response + bias_constant).reshape(nx, -1, ho, wo).to(x.dtype)


def depthwise(z: torch.Tensor, x: torch.Tensor, pad_y: int, pad_x: int) -> torch.Tensor:
    """z: (Nz, C, Hz, Wz), x: (k*Nz, C, Hx, Wx) -> (k*Nz, C, Ho, Wo)."""
    nz, channels, hz, wz = z.shape
    # The number of groups is a constant of the graph: a dynamic number of templates has to be sliced.
    if not _sliced and not isinstance(nz, torch.SymInt):
        groups, (height, width) = int(nz * channels), x.shape[2:]
        response = F.conv2d(
            x.reshape(-1, groups, height, width), z.reshape(groups, 1, hz, wz), padding=(pad_y, pad_x), groups=groups
        )
        return response.reshape(-1, channels, *response.shape[2:])
    return _depthwise_slices(z, x, pad_y, pad_x)


# A trace records operations, not the loop over samples of the specification, which would keep its number of samples for
# good: these serve any batch, or fail for another, as PyTorch's own convolutions do.
def traced_full(call: XcorrCall) -> torch.Tensor:
    """`full` for torch.jit.trace; sums in float32 at least."""
    z, x, scale, bias, numbers = call
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    with torch._C._DisableAutocast():  # or the product would be in its dtype again
        return full(z.to(wide), x.to(wide), scale, bias, *numbers).to(x.dtype)


def traced_depthwise(call: DepthwiseCall) -> torch.Tensor:
    """`depthwise` for torch.jit.trace."""
    z, x, pad_y, pad_x = call
    return depthwise(z, x, pad_y, pad_x)


def _depthwise_slices(z: torch.Tensor, x: torch.Tensor, pad_y: int, pad_x: int) -> torch.Tensor:
    """Windows of x times one template cell each."""
    nz, channels, hz, wz = z.shape
    x = F.pad(x, (pad_x, pad_x, pad_y, pad_y)) if pad_y or pad_x else x
    nx, _, height, width = x.shape
    ho, wo = height - hz + 1, width - wz + 1
    cells = x.reshape(-1, nz, channels, height, width)
    response = sum(
        cells[..., i : i + ho, j : j + wo] * z[:, :, i : i + 1, j : j + 1] for i in range(hz) for j in range(wz)
    )
    assert isinstance(response, torch.Tensor)
    return response.reshape(nx, channels, ho, wo)
