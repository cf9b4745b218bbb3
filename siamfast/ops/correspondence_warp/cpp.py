"""The `cpp` backend of correspondence_warp: passes the raw op's arguments to siamfast._C."""

from __future__ import annotations

from typing import NamedTuple

import torch

from siamfast.ops import buffers, dispatch
from siamfast.ops.correspondence_warp.call import Gradients, Options, Outputs, Tensors


class WarpOutput(NamedTuple):
    """As in csrc/correspondence_warp/warp.h: addresses."""

    values: int
    confidence: int
    entropy: int
    lse: int
    indices: int


class WarpGiven(NamedTuple):
    """As in csrc/correspondence_warp/warp.h: addresses of forward's results and of their gradients."""

    values: int
    confidence: int
    entropy: int
    lse: int
    indices: int
    by_values: int
    by_confidence: int
    by_entropy: int
    by_lse: int


class WarpGradients(NamedTuple):
    """As in csrc/correspondence_warp/warp.h: addresses."""

    query: int
    keys: int
    values: int
    bias: int


class _Inputs(NamedTuple):
    """The tensors with the types and axes for C++; they own the memory that buffers point into."""

    query: torch.Tensor  # (N, 1, C, Hq, Wq)
    keys: torch.Tensor  # (N, T, C, Hr, Wr)
    values: torch.Tensor  # (N, T, K, Hr, Wr)
    bias: torch.Tensor | None  # (N, T, 1, Hr, Wr)

    @property
    def buffers(self) -> tuple[buffers.Buffer, ...]:
        return tuple(buffers.ABSENT_FRAMES if t is None else buffers.of_tensor(t) for t in self)


def _floats(t: torch.Tensor) -> torch.Tensor:
    return t if t.dtype in dispatch.FLOATS else t.float()


def _inputs(tensors: Tensors) -> _Inputs:
    query, keys, values, bias = tensors
    return _Inputs(query.unsqueeze(1), keys, _floats(values), None if bias is None else _floats(bias.unsqueeze(2)))


def forward(tensors: Tensors, options: Options) -> Outputs:
    (n, _, hq, wq), values, topk, details = tensors.query.shape, tensors.values, options.topk, options.details
    warped = torch.empty((n, values.shape[2], hq, wq), dtype=torch.float32)
    confidence, entropy, lse = (torch.empty((n, hq, wq) if details else (0,), dtype=torch.float32) for _ in range(3))
    indices = torch.empty((n, topk or 1, hq, wq) if details else (0,), dtype=torch.int64)
    inputs = _inputs(tensors)
    output = WarpOutput(
        values=warped.data_ptr(), confidence=confidence.data_ptr(), entropy=entropy.data_ptr(), lse=lse.data_ptr(),
        indices=indices.data_ptr(),
    )  # fmt: skip
    dispatch.loaded_extension().correspondence_warp(*inputs.buffers, options, output, torch.get_num_threads())
    return Outputs(warped.to(values.dtype), confidence, entropy, lse, indices)


def backward(
    grads: Gradients,
    outputs: Outputs,  # forward's, with details
    tensors: Tensors,
    options: Options,  # with a top k its own softmax, and no gradient of lse
) -> tuple[torch.Tensor, ...]:  # for query, keys, values, key_bias (also without a bias)
    query, keys, values, _ = tensors
    results = Outputs(outputs.values.float().contiguous(), *(t.contiguous() for t in outputs[1:]))
    slopes = Gradients(*(g.float().contiguous() for g in grads))
    gradients = [torch.empty(t.shape, dtype=torch.float32) for t in (query, keys, values, keys[:, :, 0])]
    d_query, d_keys, d_values, d_bias = gradients
    inputs = _inputs(tensors)
    dispatch.loaded_extension().correspondence_warp_backward(
        *inputs.buffers, options,
        WarpGiven(
            values=results.values.data_ptr(), confidence=results.confidence.data_ptr(),
            entropy=results.entropy.data_ptr(), lse=results.lse.data_ptr(), indices=results.indices.data_ptr(),
            by_values=slopes.values.data_ptr(), by_confidence=slopes.confidence.data_ptr(),
            by_entropy=slopes.entropy.data_ptr(), by_lse=slopes.lse.data_ptr(),
        ),
        WarpGradients(
            query=d_query.data_ptr(), keys=d_keys.data_ptr(), values=d_values.data_ptr(), bias=d_bias.data_ptr()
        ),
        torch.get_num_threads(),
    )  # fmt: skip
    inputs_by_gradient = query, keys, values, tensors.bias_or_query
    return tuple(g.to(t.dtype) for g, t in zip(gradients, inputs_by_gradient, strict=True))
