"""The `triton` backend of correspondence_warp: arguments of the raw op handed to the launchers in siamfast.kernels."""

from __future__ import annotations

from typing import Any

import torch

from siamfast.ops.correspondence_warp import eager


def _too_many(topk: int, query: torch.Tensor, keys: torch.Tensor, options: tuple[Any, ...]) -> bool:
    """Whether lists would be longer than the kernels', or than the keys that some query sees."""
    from siamfast.kernels import warp_launch, warp_windows

    radius, circle, global_frames = options[2:5]
    grids = (query.shape[2], query.shape[3]), (keys.shape[3], keys.shape[4])
    least = warp_windows.least_keys(*grids, keys.shape[1], radius, circle, len(global_frames))
    return topk > min(warp_launch.MOST_TOP, least)


def forward(
    query: torch.Tensor,  # (N, C, Hq, Wq)
    keys: torch.Tensor,  # (N, T, C, Hr, Wr)
    values: torch.Tensor,  # (N, T, K, Hr, Wr)
    key_bias: torch.Tensor | None,  # (N, T, Hr, Wr)
    *options: Any,  # as for `eager.forward`
) -> eager.Outputs:
    from siamfast.kernels import warp_launch

    topk, post, details = options[5:8]
    if query.shape[0] == 0 or _too_many(topk, query, keys, options):
        return eager.forward(query, keys, values, key_bias, *options)
    task = warp_launch.make_task(query, keys, values, key_bias, *options[:5])
    found = warp_launch.launch_top(task, topk, post) if topk else warp_launch.launch_forward(task)
    grid = query.shape[2:]
    out = found[0].unflatten(2, grid).to(values.dtype)
    if not details:
        return (out, *eager.no_details(found[0]))
    confidence, entropy, lse = (f.unflatten(1, grid).contiguous() for f in found[1:4])
    index = found[4] if topk else found[4].unsqueeze(1)
    return out, confidence, entropy, lse, index.unflatten(2, grid).contiguous()


def backward(
    grads: tuple[torch.Tensor, ...],  # of values (N, K, Hq, Wq), confidence, entropy, lse (N, Hq, Wq)
    given: tuple[torch.Tensor, ...],  # forward's outputs, with details
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    key_bias: torch.Tensor | None,
    *options: Any,  # as for `eager.forward`; with a top k its own softmax, and no gradient of lse
    needs: list[bool],  # gradients wanted for query, keys, values, key_bias
) -> tuple[torch.Tensor, ...]:
    from siamfast.kernels import warp_launch

    topk = options[5]
    if query.shape[0] == 0 or _too_many(topk, query, keys, options):
        return eager.backward(grads, query, keys, values, key_bias, *options, needs=needs)
    task = warp_launch.make_task(query, keys, values, key_bias, *options[:5])
    slopes = tuple(g.float().flatten(-2) for g in grads)
    if topk:
        found = warp_launch.launch_top_backward(task, slopes[:3], given[4].flatten(-2), needs[2])
    else:
        flat = tuple(g.flatten(-2) for g in (given[0].float(), *given[1:]))
        found = warp_launch.launch_backward(task, slopes, (*flat[:4], flat[4][:, 0]), needs)
    d_query, d_keys = warp_launch.back_to_features(task, found[:2], query, keys, options[0], options[1], needs)
    # (N, K, J) as the values lay: (N, T, K, Hr, Wr).
    d_values = found[2].unflatten(2, (keys.shape[1], *keys.shape[3:])).transpose(1, 2) if needs[2] else None
    d_bias = None if key_bias is None or not needs[3] else found[3].unflatten(1, key_bias.shape[1:])
    tensors = query, keys, values, query if key_bias is None else key_bias
    every = zip((d_query, d_keys, d_values, d_bias), tensors, strict=True)
    return tuple(query.new_empty(0) if f is None else f.to(t.dtype) for f, t in every)
