"""Run by test_xcorr_balanced_loss.py with TRITON_INTERPRET=1: the one autograd.Function gives the two ops' bits."""

from __future__ import annotations

import itertools
from typing import Any
from unittest import mock

import torch
from siamfast.kernels.xcorr import launch

import siamfast
from siamfast.ops import dispatch
from siamfast.ops.xcorr_balanced_loss import triton as joint

LABEL_VALUES = torch.tensor([-1.0, 0.0, 0.3, 1.0])
# N of z and x, C, template, search, padding
SIZES = (
    (2, 2, 8, (3, 3), (9, 9), (0, 0)),
    (2, 4, 5, (3, 5), (9, 8), (1, 0)),
    (1, 1, 17, (1, 4), (5, 12), (0, 2)),
)


def results(leaves: list[torch.Tensor | None], wanted: list[int], second: bool, **options: Any) -> list[torch.Tensor]:
    """Loss, response, the wanted gradients twice; with `second` the gradients of their squares."""
    copies = [None if t is None else t.detach().clone(memory_format=torch.preserve_format) for t in leaves]
    inputs = [t for i in wanted if (t := copies[i]) is not None]
    for t in inputs:
        t.requires_grad_()
    z, x, scale, bias = copies
    loss, scores = siamfast.xcorr_balanced_loss(
        z, x, scale=0.1 if scale is None else scale, bias=bias, return_scores=True, **options
    )
    assert not scores.requires_grad
    value = loss.detach().clone()
    loss *= 0.5  # as where gradients are accumulated: the loss is no view
    weight = torch.linspace(0.5, 1.5, max(loss.numel(), 1)).reshape(loss.shape)
    first = torch.autograd.grad(loss, inputs, weight, retain_graph=True)
    again = torch.autograd.grad(loss, inputs, 2 * weight, retain_graph=True)
    found = [value, scores, *first, *again]
    if second:
        gradients = torch.autograd.grad(loss, inputs, weight, create_graph=True)
        found += torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs)
    return found


def check(leaves: list[torch.Tensor | None], wanted: list[int], second: bool, **options: Any) -> None:
    with mock.patch.object(joint, "serves", return_value=False):
        expected = results(leaves, wanted, second, **options)
    with (
        mock.patch.object(joint, "serves", return_value=True),
        mock.patch.object(joint, "loss_and_scores", wraps=joint.loss_and_scores) as served,
    ):
        found = results(leaves, wanted, second, **options)
    assert served.call_count == 1
    exact = len(expected) - len(wanted) * second
    for number, (result, true) in enumerate(zip(found, expected, strict=True)):
        assert (result.dtype, result.stride()) == (true.dtype, true.stride()), (number, wanted, options)
        if number < exact:
            assert torch.equal(result, true), (number, wanted, options)
        else:  # by PyTorch, which may add in another order
            torch.testing.assert_close(result, true, rtol=1e-4, atol=1e-5 * float(true.abs().max()))


def check_small_slopes(served: bool) -> None:
    """float16 training with a GradScaler: slopes of 1e-8 times its factor are numbers of float16, they themselves are
    not."""
    labels = torch.zeros(17, 17)
    labels[7:10, 7:10] = 1
    response = torch.where(labels > 0, 12.0, -12.0).half()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    found = []
    for dtype in (torch.float16, torch.float64):
        x, z = response.to(dtype).view(1, 1, 17, 17).requires_grad_(), torch.ones(1, 1, 1, 1, dtype=dtype)
        with (
            mock.patch.object(joint, "serves", return_value=served and dtype == torch.float16),
            siamfast.backend("triton" if dtype == torch.float16 else "reference"),
        ):
            loss = siamfast.xcorr_balanced_loss(z, x, labels=labels)
            scaler.scale(loss).backward()
        found.append(x.grad.double() / scaler.get_scale())
    assert 0 < float(found[1].abs().min()) < 2.0**-25  # half of float16's least number: it would become 0
    torch.testing.assert_close(*found, rtol=2.0**-10, atol=0)


def main() -> None:
    torch.manual_seed(0)
    done = 0
    kinds = itertools.cycle(("made", "centers", "map", "maps"))
    dtypes = itertools.cycle((torch.float32, torch.float32, torch.bfloat16, torch.float32, torch.float16))
    needs = itertools.cycle(((0, 1), (0, 1, 2), (0, 1, 2, 3), (0,), (1,), (2, 3), (0, 1, 3)))
    rest = itertools.cycle(itertools.product(("mean", "none", "sum"), ("sample", "batch", "cells"), (False, True)))
    for nz, nx, c, template, search, padding in SIZES * 5:
        kind, dtype, wanted, (reduction, balance, last) = next(kinds), next(dtypes), next(needs), next(rest)
        z, x = torch.randn(nz, c, *template).to(dtype), torch.randn(nx, c, *search).to(dtype)
        if last:
            x = x.contiguous(memory_format=torch.channels_last)
        shape = tuple(a + 2 * p - b + 1 for a, b, p in zip(search, template, padding, strict=True))
        labels = centers = None
        if kind == "centers":
            centers = torch.rand(nx, 2) * min(shape)
        elif kind != "made":
            labels = LABEL_VALUES[torch.randint(0, 4, shape if kind == "map" else (nx, *shape))]
        scale, bias = torch.tensor([0.1]) if 2 in wanted else None, torch.tensor(-0.4) if 3 in wanted else None
        check(
            [z, x, scale, bias], list(wanted), dtype == torch.float32, padding=padding, labels=labels, centers=centers,
            r_pos=8, balance=balance, reduction=reduction, neg_weight=0.7,
        )  # fmt: skip
        done += 1
    # An empty batch; and a search too wide for the kernel, whose plain PyTorch autocast must not round.
    check([torch.randn(1, 4, 3, 3), torch.randn(0, 4, 9, 9), None, None], [0, 1], False)
    with torch.autocast("cpu", torch.bfloat16):
        check([torch.randn(1, 2, 2, 2), torch.randn(1, 2, 3, 1000), None, None], [1], False)
    for served in (False, True):
        check_small_slopes(served)
    print(f"{done + 4} cases")


if __name__ == "__main__":
    launch.PROGRAMS = 8  # the interpreter takes each program in turn
    dispatch.triton_reason = lambda *ignored: None
    with siamfast.backend("triton"):
        main()
