"""The `triton` backend of correspondence_warp: passes the raw op's arguments to the launchers in siamfast.kernels."""

from __future__ import annotations

from typing import Any

import torch

from siamfast.kernels.integers import MOST
from siamfast.ops.correspondence_warp import eager
from siamfast.ops.correspondence_warp.call import Gradients, Options, Outputs, Tensors


def _too_many(tensors: Tensors, options: Options) -> bool:
    """Whether there are more channels, queries or keys than the kernels' grids allow, or the top-k lists would be
    longer than their lists or than some query's number of keys."""
    from siamfast.kernels.correspondence_warp import launch, windows

    (n, channels, hq, wq), (_, frames, values, h, w) = tensors.query.shape, tensors.values.shape
    if max(channels, values) > launch.MOST_CHANNELS or n * max(hq * wq, frames * h * w) > MOST:
        return True
    if not options.topk:
        return False
    exempt = len(options.global_frames)
    least = windows.least_keys((hq, wq), (h, w), frames, options.radius, options.circle, exempt)
    return options.topk > min(launch.MOST_TOP, least)


def _task(tensors: Tensors, options: Options) -> Any:
    from siamfast.kernels.correspondence_warp.task import make_task

    return make_task(tensors, options)


def forward(tensors: Tensors, options: Options) -> Outputs:
    from siamfast.kernels.correspondence_warp import launch

    if tensors.query.shape[0] == 0 or _too_many(tensors, options):
        return eager.forward(tensors, options)
    task = _task(tensors, options)
    results = launch.top_forward(task, topk=options.topk, post=options.post) if options.topk else launch.forward(task)
    grid = tensors.query.shape[2:]
    out = results[0].unflatten(2, grid).to(tensors.values.dtype)
    if not options.details:
        return Outputs(out, *eager.no_details(results[0]))
    confidence, entropy, lse = (f.unflatten(1, grid).contiguous() for f in results[1:4])
    index = results[4] if options.topk else results[4].unsqueeze(1)
    return Outputs(out, confidence, entropy, lse, index.unflatten(2, grid).contiguous())


def backward(
    grads: Gradients,
    outputs: Outputs,  # forward's, with details
    tensors: Tensors,
    options: Options,  # with a top k its own softmax, and no gradient of lse
    needs: list[bool],  # gradients needed for query, keys, values, key_bias
) -> tuple[torch.Tensor, ...]:
    from siamfast.kernels.correspondence_warp import launch_backward
    from siamfast.kernels.correspondence_warp.task import slopes_of_features

    query, keys, values, key_bias = tensors
    if query.shape[0] == 0 or _too_many(tensors, options):
        return eager.backward(grads, tensors, options, needs)
    task = _task(tensors, options)
    slopes = Gradients(*(g.float().flatten(-2).contiguous() for g in grads))
    if options.topk:
        chosen = outputs.indices.flatten(-2).contiguous()
        gradients = launch_backward.top_backward(task, grads=slopes, chosen=chosen, need_values=needs[2])
    else:
        given = Outputs(*(out.flatten(-2).contiguous() for out in outputs))
        ends = launch_backward.ends_of(task, grads=slopes, outputs=given._replace(values=given.values.float()))
        index = given.indices[:, 0].contiguous()
        gradients = launch_backward.backward(task, grad=slopes.values, ends=ends, index=index, needs=needs)
    d_query, d_keys = slopes_of_features(task, gradients, tensors, options, needs)
    # (N, K, J) to the shape of the values: (N, T, K, Hr, Wr).
    d_values = gradients[2].unflatten(2, (keys.shape[1], *keys.shape[3:])).transpose(1, 2) if needs[2] else None
    d_bias = None if key_bias is None or not needs[3] else gradients[3].unflatten(1, key_bias.shape[1:])
    pairs = zip((d_query, d_keys, d_values, d_bias), (query, keys, values, tensors.bias_or_query), strict=True)
    return tuple(query.new_empty(0) if gradient is None else gradient.to(t.dtype) for gradient, t in pairs)
