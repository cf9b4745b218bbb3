"""The raw op of correspondence_warp: registration, backend, autograd. Its arguments are already checked."""

from __future__ import annotations

from typing import Any

import torch

from siamfast.ops import dispatch, library
from siamfast.ops.correspondence_warp import cpp, eager, reference, triton
from siamfast.ops.correspondence_warp.call import BackwardCall, Gradients, Options, Outputs, Tensors


def warp(tensors: Tensors, options: Options) -> Outputs:
    """The op, with a graph if one is needed; a forced reference is differentiable by itself."""
    if dispatch.forced() == "reference":
        return specification(tensors, options)
    return Outputs(*_warp(*tensors, *options))


def specification(tensors: Tensors, options: Options) -> Outputs:
    """The reference, for the raw op's arguments."""
    query, keys, values, bias = tensors
    dtype = eager.compute_dtype(query)
    bias = None if bias is None else bias.to(dtype)
    with torch.autocast(query.device.type, enabled=False):
        outputs = reference.correspondence_warp(
            query.to(dtype), keys.to(dtype), values, bias, options.temperature, options.normalize,
            options.public_radius, options.public_window, tuple(options.global_frames), options.public_topk,
            options.public_topk_norm,
        )  # fmt: skip
    if options.details:
        return Outputs(outputs[0].to(values.dtype), *outputs[1:])
    first, second, third = (outputs[1].new_zeros(0) for _ in range(3))  # outputs must not alias each other
    return Outputs(outputs[0].to(values.dtype), first, second, third, first.long())


def _kernel(query: Any, keys: Any, values: Any, key_bias: Any, *numbers: Any) -> tuple[torch.Tensor, ...]:
    tensors, options = Tensors(query, keys, values, key_bias), Options(*numbers)
    chosen = dispatch.pick(query.device, query.dtype)
    if chosen == "reference":
        return tuple(specification(tensors, options))
    forward = {"cpp": cpp, "triton": triton}.get(chosen, eager).forward
    return tuple(forward(tensors, options))


def _fake(query: Any, keys: Any, values: Any, key_bias: Any, *numbers: Any) -> tuple[Any, ...]:
    n, (h, w), dtype, options = query.shape[0], query.shape[2:], eager.compute_dtype(query), Options(*numbers)
    maps = [query.new_empty((n, h, w) if options.details else (0,), dtype=dtype) for _ in range(3)]
    indices = query.new_empty((n, options.topk or 1, h, w) if options.details else (0,), dtype=torch.int64)
    return (values.new_empty((n, values.shape[2], h, w)), *maps, indices)


def _backward_kernel(*flat: Any) -> tuple[torch.Tensor, ...]:
    grads, outputs, tensors, options, needs = BackwardCall.of(*flat)
    chosen = dispatch.pick(tensors.query.device, tensors.query.dtype)
    if chosen == "reference":
        return _reference_backward(*flat)
    # Weights of all keys cut to the top k, and the log-sum-exp, have slopes at all keys, not only at the chosen ones.
    dense_too = options.topk and (options.post or (options.details and bool(grads.lse.any())))
    zero = torch.zeros_like(outputs.confidence)  # without details their slopes are 0
    slopes = grads if options.details else Gradients(grads.values, zero, zero, zero)
    if chosen == "triton" and not dense_too:
        gradients = triton.backward(slopes, outputs, tensors, options, needs)
    elif chosen == "cpp" and not dense_too:
        all_gradients = cpp.backward(slopes, outputs, tensors, options)
        gradients = tuple(
            g if need else tensors.query.new_empty(0) for g, need in zip(all_gradients, needs, strict=True)
        )
    else:
        gradients = eager.backward(grads, tensors, options, needs)
    return tuple(g.contiguous() for g in gradients)


def _reference_backward(*flat: Any) -> tuple[torch.Tensor, ...]:
    grads, _, tensors, options, needs = BackwardCall.of(*flat)

    # The slopes are no part of the formula: under vmap autograd takes batches of them, but no batches of results.
    def outputs(*inputs: Any) -> tuple[torch.Tensor, ...]:
        return tuple(specification(Tensors(*inputs), options)[: 4 if options.details else 1])

    slopes = grads if options.details else grads[:1]
    return library.reference_gradients(outputs, tensors, tuple(slopes), needs)


def _backward_fake(*flat: Any) -> tuple[torch.Tensor, ...]:
    call = BackwardCall.of(*flat)
    nothing = call.tensors.query.new_empty(0)
    pairs = zip(call.tensors, call.needs, strict=True)
    return tuple(t.new_empty(t.shape) if need and t is not None else nothing.clone() for t, need in pairs)


_TENSORS = "Tensor query, Tensor keys, Tensor values, Tensor? key_bias"
_OPTIONS = (
    "float temperature, bool normalize, float radius, bool circle, int[] global_frames, "
    "int topk, bool post, bool details"
)
_op = library.register(
    f"correspondence_warp({_TENSORS}, {_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)", _kernel, _fake
)
_backward_op = library.register(
    "correspondence_warp_backward(Tensor d_values, Tensor d_confidence, Tensor d_entropy, Tensor d_lse, "
    "Tensor warped, Tensor confidence, Tensor entropy, Tensor lse, Tensor indices, "
    f"{_TENSORS}, {_OPTIONS}, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward_kernel,
    _backward_fake,
)
_backward = library.with_autograd(_backward_op, _reference_backward)


class _Warp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, keys: Any, values: torch.Tensor, key_bias: Any, *numbers: Any) -> Any:
        ctx.options = options = Options(*numbers)
        # Backward starts from forward's details, which cost the kernels almost nothing.
        full = options.details or (query.device.type in ("cpu", "cuda") and query.dtype != torch.float64)
        # In full precision, because slopes are differences from the outputs.
        exact = values.to(eager.compute_dtype(query))
        outputs = _warp(query, keys, exact, key_bias, *options._replace(details=full))  # without gradients here
        ctx.save_for_backward(*outputs, query, keys, values, key_bias)
        details = outputs[1:] if options.details else eager.no_details(outputs[0])
        outputs = (outputs[0].to(values.dtype), *details)
        ctx.mark_non_differentiable(*(outputs[4:] if options.details else outputs[1:]))
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needs = list(ctx.needs_input_grad[:4])
        gradients = _backward(*grads[:4], *ctx.saved_tensors, *ctx.options, needs)
        return (*(g if n else None for g, n in zip(gradients, needs, strict=True)), *[None] * len(ctx.options))


def _plain(query: Any, keys: Any, values: Any, key_bias: Any, *numbers: Any) -> tuple[torch.Tensor, ...]:
    return tuple(specification(Tensors(query, keys, values, key_bias), Options(*numbers)))


_warp = library.with_autograd(_op, _Warp.apply, _plain)
