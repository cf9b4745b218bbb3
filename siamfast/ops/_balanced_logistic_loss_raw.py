"""The raw op under balanced_logistic_loss: registration, backend, autograd. Arguments are checked by then."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from siamfast.ops import _backend, _library
from siamfast.reference import balanced_logistic_loss as reference


def sample_losses(
    scores: torch.Tensor,  # (N, H, W) float32 or float64
    targets: torch.Tensor,  # (1 or N, H, W) labels within 0..1
    weights: torch.Tensor,  # (1 or N, H, W)
) -> torch.Tensor:  # (N,)
    """The op, with a graph where one is needed; the forced reference differentiates by itself."""
    if _backend.forced() == "reference":
        return reference.balanced_logistic_loss(scores, targets, weights)
    if torch.is_grad_enabled() and scores.requires_grad:
        return _Loss.apply(scores, targets, weights)
    return _forward(scores, targets, weights)[0]


def _kernel(
    scores: torch.Tensor,  # (N, H, W)
    targets: torch.Tensor,  # (1 or N, H, W)
    weights: torch.Tensor,  # (1 or N, H, W)
) -> tuple[torch.Tensor, torch.Tensor]:  # (N,) losses, (N, H, W) their derivative by the scores
    idle = weights == 0
    if _backend.pick(_backend.plain_reason, scores.device.type, scores.dtype) == "reference":
        losses = reference.balanced_logistic_loss(scores, targets, weights)
    else:
        # Not softplus(s) - s*y, nor PyTorch's (1 - y)*s - logsigmoid(s): where a cell is already right, each cancels
        # to 0 on one side; here the small loss is a term of its own.
        cells = F.softplus(-scores.abs()).add_(scores.clamp_min(0).sub_(scores * targets)).mul_(weights)
        losses = cells.masked_fill_(idle, 0).sum((1, 2))
    return losses, torch.sigmoid(scores).sub_(targets).mul_(weights).masked_fill_(idle, 0)


def _fake(scores: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
    return scores.new_empty(scores.shape[0]), torch.empty_like(scores)


_forward = _library.register(
    "balanced_logistic_loss(Tensor scores, Tensor targets, Tensor weights) -> (Tensor, Tensor)", _kernel, _fake
)
_backward = _library.register(
    "balanced_logistic_loss_backward(Tensor grad, Tensor slope, Tensor scores, Tensor targets, Tensor weights)"
    " -> Tensor",
    lambda grad, slope, scores, targets, weights: slope * grad[:, None, None],
    lambda grad, slope, scores, targets, weights: torch.empty_like(slope),
)


def _differentiable_backward(
    grad: torch.Tensor, slope: torch.Tensor, scores: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    def formula(values: torch.Tensor) -> torch.Tensor:
        return reference.balanced_logistic_loss(values, targets, weights)

    return _library.reference_gradients(formula, (scores,), grad, [True])[0]


_library.register_double_backward("balanced_logistic_loss_backward", _differentiable_backward)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        losses, slope = _forward(scores, targets, weights)
        ctx.save_for_backward(slope, scores, targets, weights)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _backward(grads[0], *ctx.saved_tensors), None, None
