"""The contract of docs/architecture.md as data: one case per op variant, for all checks of test_contract.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

import siamfast

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Case:
    """A call of a public op on float64 tensors that all may need a gradient, and the raw ops under it."""

    name: str
    call: Callable[..., torch.Tensor]
    shapes: tuple[tuple[int, ...], ...]
    raw: Callable[[Tensors], list[tuple[Any, tuple[Any, ...]]]] = field(default=lambda tensors: [])

    def inputs(self, dtype: torch.dtype = torch.float64, seed: int = 0, grad: bool = True) -> Tensors:
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in self.shapes]
        return tuple(t.to(dtype).requires_grad_(grad) for t in drawn)


def _xcorr_raw(t: Tensors) -> list[tuple[Any, tuple[Any, ...]]]:
    z, x, scale, bias = t
    options = (1.0, 0.0, 1, 0, False)
    grad = torch.randn(4, 2, 6, 4, dtype=z.dtype)
    return [
        (torch.ops.siamfast.xcorr.default, (z, x, scale, bias, *options)),
        (torch.ops.siamfast.xcorr_backward.default, (grad, z, x, scale, bias, *options, [True, True, False, True])),
    ]


def _depthwise_raw(t: Tensors) -> list[tuple[Any, tuple[Any, ...]]]:
    z, x = t
    grad = torch.randn(4, 3, 6, 6, dtype=z.dtype)
    return [
        (torch.ops.siamfast.xcorr_depthwise.default, (z, x, 1, 1)),
        (torch.ops.siamfast.xcorr_depthwise_backward.default, (grad, z, x, 1, 1, [True, True])),
    ]


def _loss_raw(t: Tensors) -> list[tuple[Any, tuple[Any, ...]]]:
    labels, centers = torch.randint(0, 2, (3, 7, 9)).to(t[0].dtype), torch.rand(3, 2, dtype=t[0].dtype) * 7
    op = torch.ops.siamfast.balanced_logistic_loss.default
    return [
        (op, (t[0], given, around, 8.0, 8.0, 16.0, 0.7, 1, 2, 0, reduction))
        for given, around, reduction in ((None, None, 0), (labels, None, 1), (None, centers, 2))
    ]


def _warp_raw(t: Tensors) -> list[tuple[Any, tuple[Any, ...]]]:
    q, r, v, b = t
    options = (0.5, True, 2.0, True, [0], 3, False, True)
    grads = torch.randn(2, 2, 4, 5, dtype=q.dtype), *torch.randn(3, 2, 4, 5, dtype=q.dtype).unbind()
    plain = (*options[:-1], False)  # the values alone
    given = torch.ops.siamfast.correspondence_warp.default(q.detach(), r.detach(), v.detach(), b.detach(), *options)
    return [
        (torch.ops.siamfast.correspondence_warp.default, (q, r, v, b, *options)),
        (torch.ops.siamfast.correspondence_warp.default, (q, r, v, b, *plain)),
        (torch.ops.siamfast.correspondence_warp_backward.default, (*grads, *given, q, r, v, b, *options, [True] * 4)),
    ]


def _crop_raw(t: Tensors) -> list[tuple[Any, tuple[Any, ...]]]:
    image = t[0].unsqueeze(0)
    windows = torch.tensor([[-2.0, 1.0, 5.0, 6.0], [0.5, 0.5, 9.0, 3.0]], dtype=torch.float64)
    args = (windows, torch.zeros(1, 3, dtype=image.dtype), 4, 5, 0, 1, False)
    grad = torch.randn(2, 3, 4, 5, dtype=image.dtype)
    return [
        (torch.ops.siamfast.crop_and_resize.default, (image, *args)),
        (torch.ops.siamfast.crop_and_resize_backward.default, (grad, image, *args, [True, True])),
    ]


def _crop(image: torch.Tensor) -> torch.Tensor:
    return siamfast.crop_and_resize(image, [[2.3, 3.1], [0.0, 7.5]], [[4.4, 6.0], [9.0, 3.3]], 5, rounding="subpixel")


CASES = [
    Case(
        "xcorr",
        lambda z, x, s, b: siamfast.xcorr(z, x, scale=s, bias=b, padding=(1, 0)),
        ((2, 6, 3, 2), (4, 3, 6, 5), (2,), (1,)),
        _xcorr_raw,
    ),
    Case("xcorr-all-pairs", lambda z, x: siamfast.xcorr(z, x, pairing="all"), ((2, 6, 3, 3), (3, 3, 7, 6))),
    Case("xcorr-circular", lambda z, x: siamfast.xcorr(z, x, padding="circular-h"), ((2, 3, 3, 3), (2, 3, 4, 4))),
    Case(
        "xcorr_depthwise",
        lambda z, x: siamfast.xcorr_depthwise(z, x, padding=1),
        ((2, 3, 3, 3), (4, 3, 6, 6)),
        _depthwise_raw,
    ),
    Case("xcorr_pixelwise", siamfast.xcorr_pixelwise, ((2, 3, 2, 3), (2, 3, 5, 4))),
    Case("loss", lambda s: siamfast.balanced_logistic_loss(s, r_pos=8), ((3, 1, 7, 9),), _loss_raw),
    Case(
        "loss-batch",
        lambda s: siamfast.balanced_logistic_loss(s, r_pos=8, r_neg=16, balance="batch", neutral="half-weighted"),
        ((3, 7, 9),),
    ),
    Case(
        "loss-focal-mined",
        lambda s: siamfast.balanced_logistic_loss(
            s, r_pos=8, r_neg=16, gamma=1.5, hard_negatives=2, balance="cells", reduction="none"
        ),
        ((3, 7, 9),),
    ),
    Case(
        "xcorr-loss",
        lambda z, x, s, b: siamfast.xcorr_balanced_loss(z, x, scale=s, bias=b, r_pos=8),
        ((2, 3, 3, 3), (2, 3, 9, 9), (1,), (1,)),
    ),
    Case(
        "warp",
        lambda q, r, v, b: siamfast.correspondence_warp(
            q, r, v, key_bias=b, temperature=0.5, radius=2, window="circle", global_frames=(0,), topk=3
        ),
        ((2, 3, 4, 5), (2, 2, 3, 4, 5), (2, 2, 2, 4, 5), (2, 2, 4, 5)),
        _warp_raw,
    ),
    Case(
        "warp-lse",
        lambda q, r, v: torch.cat(
            [
                t.flatten()
                for t in siamfast.correspondence_warp(
                    q, r, v, temperature=0.5, returns=("values", "flow", "entropy", "lse", "confidence")
                )
            ]
        ),
        ((1, 3, 4, 5), (1, 3, 6, 5), (1, 2, 6, 5)),
    ),
    Case("crop", _crop, ((3, 8, 7),), _crop_raw),
]
