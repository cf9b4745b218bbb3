"""The raw op of balanced_logistic_loss: registration, backend, autograd. Its arguments are already checked."""

from __future__ import annotations

from typing import Any

import torch

from siamfast.ops import dispatch, library
from siamfast.ops.balanced_logistic_loss import cpp, eager, reference, triton
from siamfast.ops.balanced_logistic_loss.call import Options, Reduction, sum_dtype


def loss(
    scores: torch.Tensor,  # (N, 1, H, W) or (N, H, W)
    labels: torch.Tensor | None,  # (1 or N, H, W) in `sum_dtype`
    centers: torch.Tensor | None,  # (N, 2) in `sum_dtype`; with labels None
    options: Options,
) -> torch.Tensor:
    """The op, with a graph if one is needed; within a transform of torch.func, the specification."""
    if dispatch.transformed():
        return _formula(scores, labels, centers, options)
    result: torch.Tensor = _loss(scores, labels, centers, *options)[0]
    return result


# ------------------------------------------------------------------------------------------------------ specification
def _formula(
    scores: torch.Tensor, labels: torch.Tensor | None, centers: torch.Tensor | None, options: Options
) -> torch.Tensor:
    """The specification, for the raw op's arguments."""
    maps = eager.score_maps(scores).to(sum_dtype(scores.dtype))
    if labels is None:
        labels = options.made_labels((maps.shape[1], maps.shape[2]), centers, maps.dtype, maps.device)
    return options.reduced(reference.balanced_logistic_loss(maps, labels, **options.weighing))


# ------------------------------------------------------------------------------------------------------- registration
def _kernel(
    scores: torch.Tensor, labels: torch.Tensor | None, centers: torch.Tensor | None, *numbers: Any
) -> tuple[torch.Tensor, torch.Tensor]:  # the loss, and its derivative by each score, both in `sum_dtype`
    options = Options(*numbers)
    chosen = dispatch.pick(scores.device, scores.dtype)
    if chosen == "cpp":
        return cpp.forward(scores, labels, centers, options)
    if chosen == "triton":
        return triton.forward(scores, labels, centers, options)
    if chosen == "torch":
        return eager.forward(scores, labels, centers, options)
    with library.autograd_enabled():
        leaf = scores.detach().to(sum_dtype(scores.dtype)).requires_grad_()
        losses = _formula(leaf, labels, centers, options)
        (slope,) = torch.autograd.grad(losses.sum(), leaf)
    return losses.detach(), slope


def _fake(scores: Any, labels: Any, centers: Any, *numbers: Any) -> tuple[Any, Any]:
    dtype, shape = sum_dtype(scores.dtype), () if Options(*numbers).reduction != Reduction.NONE else (scores.shape[0],)
    return scores.new_empty(shape, dtype=dtype), scores.new_empty(scores.shape, dtype=dtype)


_op = library.register(
    "balanced_logistic_loss(Tensor scores, Tensor? labels, Tensor? centers, float stride, float r_pos, float r_neg, "
    "float neg_weight, int metric, int neutral, int balance, int reduction) -> (Tensor, Tensor)",
    _kernel,
    _fake,
)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, labels: Any, centers: Any, *numbers: Any) -> Any:
        result, slope = _loss(scores, labels, centers, *numbers)  # without gradients here
        ctx.mark_non_differentiable(slope)
        ctx.save_for_backward(slope, scores, labels, centers)
        ctx.options = Options(*numbers)
        return result, slope

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        slope, scores, labels, centers = ctx.saved_tensors
        grad = grads[0]
        if torch.is_grad_enabled():  # create_graph: the slope has no derivative, the formula has
            (gradient,) = library.reference_gradients(
                lambda s: _formula(s, labels, centers, ctx.options), (scores,), grad, [True]
            )
        else:
            gradient = slope * (grad.reshape(-1, *[1] * (slope.dim() - 1)) if grad.dim() else grad)
        return gradient.to(scores.dtype), None, None, *[None] * len(ctx.options)


def _plain(scores: torch.Tensor, labels: Any, centers: Any, *numbers: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The specification of the loss, and its slope, which has no derivative."""
    options = Options(*numbers)
    maps = eager.score_maps(scores.detach()).to(sum_dtype(scores.dtype))
    if labels is None:
        labels = options.made_labels((maps.shape[1], maps.shape[2]), centers, maps.dtype, maps.device)
    weights = reference.cell_weights(labels, **options.weighing)
    slope = (torch.sigmoid(maps) - labels.clamp_min(0)) * weights * options.factor(len(maps))
    return _formula(scores, labels, centers, options), slope.masked_fill(weights == 0, 0).view(scores.shape)


_loss = library.with_autograd(_op, _Loss.apply, _plain)
