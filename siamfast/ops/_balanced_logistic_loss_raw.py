"""The raw op under balanced_logistic_loss: registration, backend, autograd. Arguments are checked by then."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from siamfast.ops import _backend, _balanced_logistic_loss_cpp, _balanced_logistic_loss_triton, _library
from siamfast.ops._lasting import make_lasting
from siamfast.reference import balanced_logistic_loss as reference

METRIC = ("l1", "l2")
NEUTRAL = ("half", "ignore", "half-weighted")
BALANCE = ("sample", "batch", "cells")
REDUCTION = ("mean", "sum", "none")


class Options(NamedTuple):
    """As the raw ops take them: numbers, and places in the tuples above."""

    stride: float
    r_pos: float
    r_neg: float
    neg_weight: float
    metric: int
    neutral: int
    balance: int
    reduction: int

    @property
    def weighing(self) -> dict[str, Any]:
        return {
            "neutral": NEUTRAL[self.neutral],
            "balance": BALANCE[self.balance],
            "neg_weight": self.neg_weight,
        }

    def made_labels(
        self, shape: tuple[int, int], centers: torch.Tensor | None, dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:  # (1 or N, H, W)
        labels = reference.logistic_labels(
            shape, stride=self.stride, r_pos=self.r_pos, r_neg=self.r_neg, metric=METRIC[self.metric],
            neutral=NEUTRAL[self.neutral], centers=centers, dtype=dtype, device=device,
        )  # fmt: skip
        return labels if labels.dim() == 3 else labels[None]

    def reduced(self, losses: torch.Tensor) -> torch.Tensor:
        """(N,) -> what the reduction says."""
        if REDUCTION[self.reduction] == "none":
            return losses
        return losses.sum() / max(losses.shape[0], 1) if REDUCTION[self.reduction] == "mean" else losses.sum()

    def factor(self, samples: int) -> float:
        """Of each sample's loss in the result."""
        return 1 / max(samples, 1) if REDUCTION[self.reduction] == "mean" else 1.0


def reason(name: str, device_type: str, dtype: torch.dtype) -> str | None:
    """Why backend `name` cannot serve, or None."""
    if name == "cpp":
        return _balanced_logistic_loss_cpp.reason(device_type, dtype)
    if name == "triton":
        return _balanced_logistic_loss_triton.reason(device_type, dtype)
    return _backend.plain_reason(name, device_type, dtype)


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What the loss of scores of this dtype is computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def loss(
    scores: torch.Tensor,  # (N, 1, H, W) or (N, H, W)
    labels: torch.Tensor | None,  # (1 or N, H, W) in `sum_dtype`
    centers: torch.Tensor | None,  # (N, 2) in `sum_dtype`; with labels None
    options: Options,
) -> torch.Tensor:
    """The op, with a graph where one is needed."""
    if torch.is_grad_enabled() and scores.requires_grad:
        return _Loss.apply(scores, labels, centers, options)
    return _forward(scores, labels, centers, *options)[0]


# ---------------------------------------------------------------------------------------------------- plain PyTorch
def _formula(
    scores: torch.Tensor, labels: torch.Tensor | None, centers: torch.Tensor | None, options: Options
) -> torch.Tensor:
    """The specification, from the raw op's arguments."""
    maps = _maps(scores).to(sum_dtype(scores.dtype))
    if labels is None:
        labels = options.made_labels((maps.shape[1], maps.shape[2]), centers, maps.dtype, maps.device)
    return options.reduced(reference.balanced_logistic_loss(maps, labels, **options.weighing))


def _maps(scores: torch.Tensor) -> torch.Tensor:
    return scores.squeeze(1) if scores.dim() == 4 else scores


@lru_cache(maxsize=32)
def _shared_cells(
    shape: tuple[int, int], options: Options, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets and weights (1, H, W) that all samples share: a trainer asks for the same in every step."""

    def make() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode(False):  # tensors of inference mode could not be used in training later
            labels = options.made_labels(shape, None, dtype, device)
            return labels.clamp_min(0), reference.cell_weights(labels, **options.weighing)

    return make_lasting(make, device)


def _torch(
    scores: torch.Tensor, labels: torch.Tensor | None, centers: torch.Tensor | None, options: Options
) -> tuple[torch.Tensor, torch.Tensor]:
    maps = _maps(scores)
    maps = maps.to(sum_dtype(scores.dtype))
    if labels is None and centers is None:
        make = _shared_cells.__wrapped__ if maps.is_cuda and torch.cuda.is_current_stream_capturing() else _shared_cells
        targets, weights = make((maps.shape[1], maps.shape[2]), options, maps.dtype, maps.device)
    else:
        if labels is None:
            labels = options.made_labels((maps.shape[1], maps.shape[2]), centers, maps.dtype, maps.device)
        targets, weights = labels.clamp_min(0), reference.cell_weights(labels, **options.weighing)
    idle = weights == 0
    # Not softplus(s) - s*y, nor PyTorch's (1 - y)*s - logsigmoid(s): where a cell is already right, each cancels
    # to 0 on one side; here the small loss is a term of its own.
    cells = F.softplus(-maps.abs()).add_(maps.clamp_min(0).sub_(maps * targets)).mul_(weights)
    losses = cells.masked_fill_(idle, 0).sum((1, 2))
    slope = torch.sigmoid(maps).sub_(targets).mul_(weights).masked_fill_(idle, 0).mul_(options.factor(len(maps)))
    return options.reduced(losses), slope.view(scores.shape)


# ------------------------------------------------------------------------------------------------------- registration
def _kernel(
    scores: torch.Tensor, labels: torch.Tensor | None, centers: torch.Tensor | None, *numbers: Any
) -> tuple[torch.Tensor, torch.Tensor]:  # the loss, and its derivative by every score, both in `sum_dtype`
    options = Options(*numbers)
    chosen = _backend.pick(reason, scores.device, scores.dtype)
    if chosen == "cpp":
        return _balanced_logistic_loss_cpp.forward(scores, labels, centers, options)
    if chosen == "triton":
        return _balanced_logistic_loss_triton.forward(scores, labels, centers, options)
    if chosen == "torch":
        return _torch(scores, labels, centers, options)
    with _library.autograd_enabled():
        leaf = scores.detach().to(sum_dtype(scores.dtype)).requires_grad_()
        found = _formula(leaf, labels, centers, options)
        (slope,) = torch.autograd.grad(found.sum(), leaf)
    return found.detach(), slope


def _fake(scores: Any, labels: Any, centers: Any, *numbers: Any) -> tuple[Any, Any]:
    dtype, shape = sum_dtype(scores.dtype), () if REDUCTION[numbers[-1]] != "none" else (scores.shape[0],)
    return scores.new_empty(shape, dtype=dtype), scores.new_empty(scores.shape, dtype=dtype)


_forward = _library.register(
    "balanced_logistic_loss(Tensor scores, Tensor? labels, Tensor? centers, float stride, float r_pos, float r_neg, "
    "float neg_weight, int metric, int neutral, int balance, int reduction) -> (Tensor, Tensor)",
    _kernel,
    _fake,
)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, labels: Any, centers: Any, options: Options) -> torch.Tensor:
        found, slope = _forward(scores, labels, centers, *options)
        ctx.save_for_backward(slope, scores, labels, centers)
        ctx.options = options
        return found

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        slope, scores, labels, centers = ctx.saved_tensors
        (grad,) = grads
        if torch.is_grad_enabled():  # create_graph: the slope has no derivative, the formula has
            (found,) = _library.reference_gradients(
                lambda s: _formula(s, labels, centers, ctx.options), (scores,), grad, [True]
            )
        else:
            found = slope * (grad.reshape(-1, *[1] * (slope.dim() - 1)) if grad.dim() else grad)
        return found.to(scores.dtype), None, None, None
