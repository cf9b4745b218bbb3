"""The `cpp` backend of correspondence_warp: arguments of the raw op handed to siamfast._C."""

from __future__ import annotations

from typing import Any

import torch

from siamfast.ops import dispatch
from siamfast.ops.correspondence_warp import eager

_ABSENT = (0, 1, 0, 0, 0, 0, 0)


def _maps(t: torch.Tensor) -> tuple[int, ...]:
    """t: (N, T, C, H, W)."""
    return t.data_ptr(), dispatch.CODES[t.dtype], *(step * t.element_size() for step in t.stride())


def _call(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, key_bias: torch.Tensor | None, temperature: float,
    normalize: bool, radius: float, circle: bool, global_frames: list[int], topk: int, post: bool, details: bool,
) -> tuple[tuple[Any, ...], tuple[torch.Tensor | None, ...]]:  # fmt: skip
    """What both kernels take before their outputs, and the tensors to keep until they are done."""
    (n, channels, hq, wq), (frames, hr, wr) = query.shape, (keys.shape[1], *keys.shape[3:])
    given = values.float() if values.dtype not in dispatch.FLOATS else values
    bias = None if key_bias is None else key_bias.unsqueeze(2)
    bias = bias.float() if bias is not None and bias.dtype not in dispatch.FLOATS else bias
    sizes = n, frames, channels, values.shape[2], hq, wq, hr, wr, topk, torch.get_num_threads()
    maps = _maps(query.unsqueeze(1)), _maps(keys), _maps(given), _ABSENT if bias is None else _maps(bias)
    bounds = temperature, radius, [t in global_frames for t in range(frames)]
    return (sizes, (normalize, circle, post, details), *bounds, *maps), (given, bias)


def forward(
    query: torch.Tensor,  # (N, C, Hq, Wq)
    keys: torch.Tensor,  # (N, T, C, Hr, Wr)
    values: torch.Tensor,  # (N, T, K, Hr, Wr)
    key_bias: torch.Tensor | None,  # (N, T, Hr, Wr)
    *options: Any,  # as for `eager.forward`
) -> eager.Outputs:
    (n, _, hq, wq), topk, details = query.shape, options[5], options[7]
    found = torch.empty((n, values.shape[2], hq, wq), dtype=torch.float32)
    maps = [torch.empty((n, hq, wq) if details else (0,), dtype=torch.float32) for _ in range(3)]
    indices = torch.empty((n, topk or 1, hq, wq) if details else (0,), dtype=torch.int64)
    arguments, _held = _call(query, keys, values, key_bias, *options)
    dispatch.loaded_extension().correspondence_warp(*arguments, tuple(t.data_ptr() for t in (found, *maps, indices)))
    return found.to(values.dtype), maps[0], maps[1], maps[2], indices


def backward(
    grads: tuple[torch.Tensor, ...],  # of values (N, K, Hq, Wq), confidence, entropy, lse (N, Hq, Wq)
    given: tuple[torch.Tensor, ...],  # forward's outputs, with details
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    key_bias: torch.Tensor | None,
    *options: Any,  # as for `eager.forward`; with a top k its own softmax, and no gradient of lse
) -> tuple[torch.Tensor, ...]:  # by query, keys, values, key_bias (zeros' shape where there is none)
    found = [torch.empty(t.shape, dtype=torch.float32) for t in (query, keys, values, keys[:, :, 0])]
    held = [t.contiguous() for t in (given[0].float(), *given[1:], *(g.float() for g in grads))]
    arguments, _held = _call(query, keys, values, key_bias, *options)
    dispatch.loaded_extension().correspondence_warp_backward(
        *arguments, tuple(t.data_ptr() for t in held), tuple(t.data_ptr() for t in found)
    )
    tensors = query, keys, values, query if key_bias is None else key_bias
    return tuple(f.to(t.dtype) for f, t in zip(found, tensors, strict=True))
