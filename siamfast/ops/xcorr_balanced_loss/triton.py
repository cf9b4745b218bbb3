"""The correlation and its loss in training on a GPU: the kernels of the two ops, launched by one autograd.Function.

The GPU does what it does for the two ops. The host saves a Function, the dispatch between them and their second checks.
Other calls are the composition of the two ops, with equal results.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from siamfast.ops import dispatch, library
from siamfast.ops.balanced_logistic_loss import autograd as loss_autograd
from siamfast.ops.balanced_logistic_loss import triton as loss_triton
from siamfast.ops.balanced_logistic_loss.call import Options
from siamfast.ops.xcorr import autograd as xcorr_autograd
from siamfast.ops.xcorr import triton as xcorr_triton
from siamfast.ops.xcorr.call import Numbers, XcorrCall


def serves(call: XcorrCall) -> bool:
    """Whether the Function serves this call: eager training on a GPU."""
    x = call.x
    if not x.is_cuda or dispatch.forced() not in (None, "triton"):
        return False
    if dispatch.triton_reason(str(x.device), x.dtype) is not None:
        return False
    needs_gradient = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in call.tensors)
    return needs_gradient and not dispatch.values_unknown() and _get_current_dispatch_mode() is None


def loss_and_scores(
    call: XcorrCall, labels: torch.Tensor | None, centers: torch.Tensor | None, options: Options
) -> tuple[torch.Tensor, torch.Tensor]:
    """The reduced loss in float32, and the response (N, 1, Ho, Wo) in x's dtype, which has no gradient."""
    return _Fused.apply(*call.tensors, call.numbers, labels, centers, options)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: torch.Tensor, x: torch.Tensor, scale: torch.Tensor | None, bias: torch.Tensor | None,
        numbers: Numbers, labels: torch.Tensor | None, centers: torch.Tensor | None, options: Options,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        with torch._C._DisableAutocast():  # it would act on the matrix product
            scores = xcorr_triton.full_forward(XcorrCall(z, x, scale, bias, numbers))
        loss, slope = loss_triton.forward(scores, labels, centers, options)
        ctx.save_for_backward(z, x, scale, bias, labels, centers, slope)
        ctx.numbers, ctx.options = numbers, options
        ctx.mark_non_differentiable(scores)
        return loss, scores

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needs, grad = list(ctx.needs_input_grad[:4]), grads[0]
        z, x, scale, bias, labels, centers, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the slope has no derivative, the two ops have

            def composition(z: Any, x: Any, scale: Any, bias: Any) -> torch.Tensor:
                response = xcorr_autograd.full(XcorrCall(z, x, scale, bias, ctx.numbers))
                return loss_autograd.loss(response, labels, centers, ctx.options)

            gradients = library.reference_gradients(composition, (z, x, scale, bias), grad, needs)
        else:
            # The kernels want the response's gradient in its dtype. The product is rounded to it once, in one launch,
            # and after a GradScaler's factor is in it: float16 does not hold 1e-8.
            response_grad = torch.empty_like(slope, dtype=x.dtype)
            torch.mul(slope, grad.reshape(-1, 1, 1, 1), out=response_grad)
            gradients = xcorr_triton.full_backward(response_grad, XcorrCall(z, x, scale, bias, ctx.numbers), needs)
        return (*(g if need else None for g, need in zip(gradients, needs, strict=True)), *[None] * 4)
