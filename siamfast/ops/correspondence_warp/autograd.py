"""The raw op under correspondence_warp: registration, backend, autograd. Arguments are checked by then."""

from __future__ import annotations

from typing import Any

import torch

from siamfast.ops import dispatch, library
from siamfast.ops.correspondence_warp import cpp, eager, reference, triton


def warp(
    query: torch.Tensor,  # (N, C, Hq, Wq)
    keys: torch.Tensor,  # (N, T, C, Hr, Wr)
    values: torch.Tensor,  # (N, T, K, Hr, Wr)
    key_bias: torch.Tensor | None,  # (N, T, Hr, Wr)
    *options: Any,  # as for `eager.forward`
) -> tuple[torch.Tensor, ...]:
    """The op, with a graph where one is needed; the forced reference differentiates by itself."""
    tensors = (query, keys, values, key_bias)
    if dispatch.forced() == "reference":
        return _reference(*tensors, *options)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return _Warp.apply(*tensors, *options)
    return _forward(*tensors, *options)


def _reference(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: Any, temperature: float, normalize: bool,
    radius: float, circle: bool, global_frames: list[int], topk: int, post: bool, details: bool,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    dtype = eager.compute_dtype(query)
    bias = None if bias is None else bias.to(dtype)
    with torch.autocast(query.device.type, enabled=False):
        found = reference.correspondence_warp(
            query.to(dtype), keys.to(dtype), values, bias, temperature, normalize, None if radius < 0 else radius,
            "circle" if circle else "square", tuple(global_frames), topk or None, "post" if post else "pre",
        )  # fmt: skip
    if details:
        return (found[0].to(values.dtype), *found[1:])
    first, second, third = (found[1].new_zeros(0) for _ in range(3))  # outputs must not alias one another
    return found[0].to(values.dtype), first, second, third, first.long()


def _kernel(*args: Any) -> tuple[torch.Tensor, ...]:
    query = args[0]
    chosen = dispatch.pick(query.device, query.dtype)
    if chosen == "reference":
        return _reference(*args)
    forward = {"cpp": cpp, "triton": triton}.get(chosen, eager).forward
    return forward(*args)


def _fake(query: Any, keys: Any, values: Any, bias: Any, *options: Any) -> tuple[Any, ...]:
    n, (h, w), dtype = query.shape[0], query.shape[2:], eager.compute_dtype(query)
    topk, details = options[5], options[7]
    maps = [query.new_empty((n, h, w) if details else (0,), dtype=dtype) for _ in range(3)]
    indices = query.new_empty((n, topk or 1, h, w) if details else (0,), dtype=torch.int64)
    return (values.new_empty((n, values.shape[2], h, w)), *maps, indices)


def _backward_kernel(*args: Any) -> tuple[torch.Tensor, ...]:
    *rest, needs = args
    grads, given, (query, keys, values, bias), options = tuple(rest[:4]), tuple(rest[4:9]), rest[9:13], rest[13:]
    chosen = dispatch.pick(query.device, query.dtype)
    if chosen == "reference":
        return _reference_backward(*args)
    topk, post, details = options[5:8]
    # Weights of all keys cut to the top k, and the log-sum-exp, have slopes at all keys beside those at the chosen.
    dense_too = topk and (post or (details and bool(grads[3].any())))
    zero = torch.zeros_like(given[1])  # nobody has seen what was not wanted
    slopes = grads if details else (grads[0], zero, zero, zero)
    if chosen == "triton" and not dense_too:
        found = triton.backward(slopes, given, query, keys, values, bias, *options, needs=list(needs))
    elif chosen == "cpp" and not dense_too:
        every = cpp.backward(slopes, given, query, keys, values, bias, *options)
        found = tuple(g if need else query.new_empty(0) for g, need in zip(every, needs, strict=True))
    else:
        found = eager.backward(grads, query, keys, values, bias, *options, needs=needs)
    return tuple(g.contiguous() for g in found)


def _reference_backward(*args: Any) -> tuple[torch.Tensor, ...]:
    *rest, needs = args
    grads, tensors, options = rest[:4], tuple(rest[9:13]), rest[13:]

    def scalar(*inputs: Any) -> torch.Tensor:
        outputs = _reference(*inputs, *options)[:4]
        sums = [(o * g.to(o.dtype)).sum().to(one.dtype) for o, g in zip(outputs, grads, strict=True)]
        return torch.stack(sums).sum()

    one = torch.ones((), dtype=eager.compute_dtype(tensors[0]), device=tensors[0].device)
    return library.reference_gradients(scalar, tensors, one, needs)


def _backward_fake(*args: Any) -> tuple[torch.Tensor, ...]:
    *rest, needs = args
    tensors = rest[9:13]
    return tuple(t.new_empty(t.shape) if n else rest[9].new_empty(0) for t, n in zip(tensors, needs, strict=True))


_TENSORS = "Tensor query, Tensor keys, Tensor values, Tensor? key_bias"
_OPTIONS = (
    "float temperature, bool normalize, float radius, bool circle, int[] global_frames, "
    "int topk, bool post, bool details"
)
_forward = library.register(
    f"correspondence_warp({_TENSORS}, {_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)", _kernel, _fake
)
_backward = library.register(
    "correspondence_warp_backward(Tensor d_values, Tensor d_confidence, Tensor d_entropy, Tensor d_lse, "
    "Tensor warped, Tensor confidence, Tensor entropy, Tensor lse, Tensor indices, "
    f"{_TENSORS}, {_OPTIONS}, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
)
library.register_double_backward("correspondence_warp_backward", _reference_backward)


class _Warp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: Any, *options: Any
    ) -> Any:
        ctx.options = options
        # Backward begins with what forward found: the kernels' details cost them next to nothing.
        full = options[-1] or (query.device.type in ("cpu", "cuda") and query.dtype != torch.float64)
        # In full precision: slopes are differences from what came out.
        exact = values.to(eager.compute_dtype(query))
        outputs = _forward(query, keys, exact, bias, *options[:-1], full)
        ctx.save_for_backward(*outputs, query, keys, values, bias)
        details = outputs[1:] if options[-1] else eager.no_details(outputs[0])
        outputs = (outputs[0].to(values.dtype), *details)
        ctx.mark_non_differentiable(*(outputs[4:] if options[-1] else outputs[1:]))
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        *given, query, keys, values, bias = ctx.saved_tensors
        needs = list(ctx.needs_input_grad[:4])
        found = _backward(*grads[:4], *given, query, keys, values, bias, *ctx.options, needs)
        return (*(g if n else None for g, n in zip(found, needs, strict=True)), *[None] * len(ctx.options))
