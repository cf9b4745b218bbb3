"""Checks of the loss's kernel, and of the one that joins it to the correlation."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from siamfast.kernels.balanced_logistic_loss import launch as loss_launch
from siamfast.kernels.xcorr_balanced_loss import launch as joint_launch

import siamfast
from benchmarks.gpu.checks import Check, Tensors, numbers
from siamfast.ops.balanced_logistic_loss import check_options

SCALE, SIDE = 0.1, 17
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


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
        z, x = (t.to(device, dtype) for t in features(samples, channels, whole))
        options = check_options(8, 16, 0, "l1", "half", balance)
        around = scores_and_centers(samples)[1].to(device) if balance == "sample" else None
        dx = torch.empty_like(x)
        sums, scores, dz = joint_launch.forward(
            z=z,
            x=x,
            scale=None,
            bias=None,
            scale_constant=SCALE,
            bias_constant=0.0,
            pad_y=0,
            pad_x=0,
            labels=None,
            centers=around,
            options=options,
            dx=dx,
        )
        return {"loss": sums[0].sum(), "scores": scores, "dz": dz, "dx": dx}

    truth = functools.partial(fused_truth, samples, channels, balance, whole)
    # The slope that meets z and x is rounded to their dtype; TF32 rounds as float16 does.
    part = 3e-2 if dtype == torch.bfloat16 else 5e-3
    return Check("xcorr_balanced_loss", f"B={samples}, {channels} channels, {balance}", dtype, run, truth, part)


def scaled_samples() -> Check:
    """Gradients scaled in place by the incoming gradient."""
    data, factors = scores_and_centers(4)[0], torch.tensor([0.5, 1.0, -2.0, 3.0])

    def run(device: str) -> Tensors:
        copy = data.to(device, copy=True)
        joint_launch.scale_samples(copy, factors.to(device))
        return {"value": copy}

    def truth(device: str) -> Tensors:
        return {"value": (data.double() * factors.double()[:, None, None, None]).to(device)}

    return Check("xcorr_balanced_loss", "scaled samples", torch.float32, run, truth, 1e-6)


def values(joined: bool, tiny: bool) -> Iterator[Check]:
    for samples in (2,) if tiny else (64, 8, 1):
        for dtype in DTYPES:
            for balance in ("sample", "batch"):
                yield fused(samples, 8 if tiny else 256, balance, dtype) if joined else loss(samples, balance, dtype)


def smoke() -> Iterator[Check]:
    yield loss(2, "sample", torch.float32)
    yield fused(2, 8, "sample", torch.float32)
    yield fused(2, 8, "batch", torch.bfloat16)
    yield scaled_samples()
