"""The `cpp` backend of correspondence_warp: arguments of the raw op handed to siamfast._C."""

from __future__ import annotations

from typing import Any

import torch

from siamfast.ops import dispatch
from siamfast.ops.correspondence_warp.call import Gradients, Options, Outputs, Tensors

_ABSENT = (0, 1, 0, 0, 0, 0, 0)


def _maps(t: torch.Tensor) -> tuple[int, ...]:
    """t: (N, T, C, H, W)."""
    return t.data_ptr(), dispatch.CODES[t.dtype], *(step * t.element_size() for step in t.stride())


def _call(tensors: Tensors, options: Options) -> tuple[tuple[Any, ...], tuple[torch.Tensor | None, ...]]:
    """What both kernels take before their outputs, and the tensors to keep until they are done."""
    query, keys, values, key_bias = tensors
    (n, channels, hq, wq), (frames, hr, wr) = query.shape, (keys.shape[1], *keys.shape[3:])
    given = values.float() if values.dtype not in dispatch.FLOATS else values
    bias = None if key_bias is None else key_bias.unsqueeze(2)
    bias = bias.float() if bias is not None and bias.dtype not in dispatch.FLOATS else bias
    sizes = n, frames, channels, values.shape[2], hq, wq, hr, wr, options.topk, torch.get_num_threads()
    maps = _maps(query.unsqueeze(1)), _maps(keys), _maps(given), _ABSENT if bias is None else _maps(bias)
    bounds = options.temperature, options.radius, [t in options.global_frames for t in range(frames)]
    flags = options.normalize, options.circle, options.post, options.details
    return (sizes, flags, *bounds, *maps), (given, bias)


def forward(tensors: Tensors, options: Options) -> Outputs:
    (n, _, hq, wq), values, topk, details = tensors.query.shape, tensors.values, options.topk, options.details
    found = torch.empty((n, values.shape[2], hq, wq), dtype=torch.float32)
    maps = [torch.empty((n, hq, wq) if details else (0,), dtype=torch.float32) for _ in range(3)]
    indices = torch.empty((n, topk or 1, hq, wq) if details else (0,), dtype=torch.int64)
    arguments, _held = _call(tensors, options)
    dispatch.loaded_extension().correspondence_warp(*arguments, tuple(t.data_ptr() for t in (found, *maps, indices)))
    return Outputs(found.to(values.dtype), maps[0], maps[1], maps[2], indices)


def backward(
    grads: Gradients,
    given: Outputs,  # forward's, with details
    tensors: Tensors,
    options: Options,  # with a top k its own softmax, and no gradient of lse
) -> tuple[torch.Tensor, ...]:  # by query, keys, values, key_bias (zeros' shape where there is none)
    query, keys, values, _ = tensors
    found = [torch.empty(t.shape, dtype=torch.float32) for t in (query, keys, values, keys[:, :, 0])]
    held = [t.contiguous() for t in (given.values.float(), *given[1:], *(g.float() for g in grads))]
    arguments, _held = _call(tensors, options)
    dispatch.loaded_extension().correspondence_warp_backward(
        *arguments, tuple(t.data_ptr() for t in held), tuple(t.data_ptr() for t in found)
    )
    like = query, keys, values, tensors.bias_or_query
    return tuple(f.to(t.dtype) for f, t in zip(found, like, strict=True))
