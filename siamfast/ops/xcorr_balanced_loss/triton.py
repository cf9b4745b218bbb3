"""The fused correlation and loss on a GPU: one launch for the loss and all gradients, backward only scales them.

It serves eager training only; other calls are the composition of the two ops, with equal results.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from siamfast.ops import dispatch, library
from siamfast.ops.balanced_logistic_loss import autograd as loss_autograd
from siamfast.ops.balanced_logistic_loss.call import Balance, Options, Reduction
from siamfast.ops.xcorr import autograd as xcorr_autograd
from siamfast.ops.xcorr.call import Numbers, XcorrCall
from siamfast.ops.xcorr.eager import layout


def serves(call: XcorrCall, labels: torch.Tensor | None, centers: torch.Tensor | None, options: Options) -> bool:
    """Whether the fused kernel serves this call."""
    z, x, numbers = call.z, call.x, call.numbers
    if not x.is_cuda or dispatch.forced() not in (None, "triton"):
        return False
    if dispatch.triton_reason(str(x.device), x.dtype) is not None:
        return False
    needs_gradient = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in call.tensors)
    traced = dispatch.values_unknown() or _get_current_dispatch_mode() is not None
    return needs_gradient and not traced and fits(z, x, numbers.pad_y, numbers.pad_x, labels, centers, options)


def fits(
    z: torch.Tensor, x: torch.Tensor, pad_y: int, pad_x: int, labels: torch.Tensor | None, centers: torch.Tensor | None,
    options: Options,
) -> bool:  # fmt: skip
    """Whether the sizes fit the kernel's blocks, and one program can compute the weights of a sample's cells."""
    if z.shape[0] != x.shape[0] or x.numel() == 0:
        return False
    if x.dtype == torch.float16:  # gradients of about 1e-7 are stored here before GradScaler's factor enlarges them
        return False
    own_labels = centers is not None or (labels is not None and labels.shape[0] > 1)
    if own_labels and options.balance != Balance.SAMPLE:
        return False
    from siamfast.kernels.xcorr_balanced_loss import launch

    return launch.config_of(z, x, pad_y, pad_x) is not None


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
        from siamfast.kernels.xcorr_balanced_loss import launch

        dx = torch.empty_like(x, memory_format=layout(x))
        scale_number, bias_number = (None if t is None else t.reshape(1).float() for t in (scale, bias))
        sums, scores, dz = launch.forward(
            z=z,
            x=x,
            scale=scale_number,
            bias=bias_number,
            scale_constant=numbers.scale_constant,
            bias_constant=numbers.bias_constant,
            pad_y=numbers.pad_y,
            pad_x=numbers.pad_x,
            labels=labels,
            centers=centers,
            options=options,
            dx=dx,
        )
        ctx.save_for_backward(z, x, scale, bias, labels, centers)
        ctx.numbers, ctx.options, ctx.gradients = numbers, options, (dz, dx, sums)
        scores = scores.to(x.dtype)
        ctx.mark_non_differentiable(scores)
        return sums[0].clone() if options.reduction == Reduction.NONE else sums[0].sum(), scores

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needs, nothing = list(ctx.needs_input_grad[:4]), (None,) * 4
        grad, gradients, ctx.gradients = grads[0], ctx.gradients, None
        z, x, scale, bias, labels, centers = ctx.saved_tensors
        if torch.is_grad_enabled() or gradients is None:
            # For a second derivative, or a second backward (retain_graph): the gradients of forward are used up.
            def composition(z: Any, x: Any, scale: Any, bias: Any) -> torch.Tensor:
                response = xcorr_autograd.full(XcorrCall(z, x, scale, bias, ctx.numbers))
                return loss_autograd.loss(response, labels, centers, ctx.options)

            again = library.reference_gradients(composition, (z, x, scale, bias), grad, needs)
            return (*(g if need else None for g, need in zip(again, needs, strict=True)), *nothing)
        from siamfast.kernels.xcorr_balanced_loss import launch

        dz, dx, (_, by_bias, by_scale) = gradients
        each = grad.float().expand(len(x)).contiguous()
        for need, slope in zip(needs, (dz, dx), strict=False):
            if need:
                launch.scale_samples(slope, each)
        dscale, dbias = (
            (slopes * each).sum().to(t.dtype).reshape(t.shape) if need and t is not None else None
            for need, slopes, t in zip(needs[2:], (by_scale, by_bias), (scale, bias), strict=True)
        )
        return (dz if needs[0] else None, dx if needs[1] else None, dscale, dbias, *nothing)
