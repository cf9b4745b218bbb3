"""Checks of the loss's kernel, and of the autograd.Function that launches it after the correlation's."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from siamfast.kernels.balanced_logistic_loss import launch as loss_launch

import siamfast
from benchmarks.gpu.checks import Check, Tensors, numbers
from siamfast.ops.balanced_logistic_loss import check_options
from siamfast.ops.xcorr import make_call
from siamfast.ops.xcorr_balanced_loss import triton as joint

SCALE, SIDE = 0.1, 17
SERVED = (torch.float32, torch.bfloat16)  # by the Function
DTYPES = (*SERVED, torch.float16)


@functools.cache
def scores_and_centers(samples: int, whole: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        numbers(samples, 1, SIDE, SIDE, generator=generator, whole=whole, scale=3.0),
        torch.rand(samples, 2, generator=generator) * SIDE,
    )


@functools.cache
def features(samples: int, channels: int, whole: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        numbers(samples, channels, 6, 6, generator=generator, whole=whole),
        numbers(samples, channels, 22, 22, generator=generator, whole=whole),
    )


def _reference(scores: torch.Tensor, samples: int, balance: str) -> torch.Tensor:
    """Labels about each sample's center, or about the middle where the balance is the batch's."""
    centers = scores_and_centers(samples)[1].to(scores.device).double() if balance == "sample" else None
    loss = siamfast.balanced_logistic_loss(scores, balance=balance, centers=centers)
    assert isinstance(loss, torch.Tensor)
    return loss


@functools.cache
def loss_truth(samples: int, balance: str, whole: bool, device: str) -> Tensors:
    scores = scores_and_centers(samples, whole)[0].to(device).double().requires_grad_()
    with siamfast.backend("reference"):
        loss = _reference(scores, samples, balance)
        (slope,) = torch.autograd.grad(loss, scores)
    return {"loss": loss.detach(), "slope": slope}


@functools.cache
def fused_truth(samples: int, channels: int, balance: str, whole: bool, device: str) -> Tensors:
    z, x = (t.to(device).double().requires_grad_() for t in features(samples, channels, whole))
    with siamfast.backend("reference"):
        scores = siamfast.xcorr(z, x, scale=SCALE)
        loss = _reference(scores, samples, balance)
        dz, dx = torch.autograd.grad(loss, (z, x))
    return {"loss": loss.detach(), "scores": scores.detach(), "dz": dz, "dx": dx}


def loss(samples: int, balance: str, dtype: torch.dtype) -> Check:
    whole = dtype == torch.float32

    def run(device: str) -> Tensors:
        scores, centers = (t.to(device) for t in scores_and_centers(samples, whole))
        options = check_options(8, 16, 0, "l1", "half", balance)
        around = centers if balance == "sample" else None
        results = loss_launch.forward(scores=scores.to(dtype), labels=None, centers=around, options=options)
        return dict(zip(("loss", "slope"), results, strict=True))

    truth = functools.partial(loss_truth, samples, balance, whole)
    # The scores are the truth's in every dtype, and all sums float32's.
    return Check("balanced_logistic_loss", f"B={samples}, {balance}", dtype, run, truth, 1e-5)


def fused(samples: int, channels: int, balance: str, dtype: torch.dtype) -> Check:
    whole = dtype == torch.float32

    def run(device: str) -> Tensors:
        z, x = (t.to(device, dtype).detach().requires_grad_() for t in features(samples, channels, whole))
        options = check_options(8, 16, 0, "l1", "half", balance)
        around = scores_and_centers(samples)[1].to(device) if balance == "sample" else None
        loss, scores = joint.loss_and_scores(make_call(z, x, SCALE, None, 0), None, around, options)
        dz, dx = torch.autograd.grad(loss, (z, x))
        return {"loss": loss.detach(), "scores": scores, "dz": dz, "dx": dx}

    truth = functools.partial(fused_truth, samples, channels, balance, whole)
    # The response and the slope that meets z and x are rounded to their dtype; TF32 rounds factors to 11 bits.
    part = 3e-2 if dtype == torch.bfloat16 else 5e-3
    return Check("xcorr_balanced_loss", f"B={samples}, {channels} channels, {balance}", dtype, run, truth, part)


def values(joined: bool, tiny: bool) -> Iterator[Check]:
    for samples in (2,) if tiny else (64, 8, 1):
        for dtype in SERVED if joined else DTYPES:
            for balance in ("sample", "batch"):
                yield fused(samples, 8 if tiny else 256, balance, dtype) if joined else loss(samples, balance, dtype)


def smoke() -> Iterator[Check]:
    yield loss(2, "sample", torch.float32)
    yield fused(2, 8, "sample", torch.float32)
    yield fused(2, 8, "batch", torch.bfloat16)
