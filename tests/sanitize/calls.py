"""Random calls of every C++ kernel, forward and backward: odd sizes, strides, dtypes, numbers of threads."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable

import torch

import siamfast
from siamfast.data.augmentation import draw_augmentation

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _tensor(rng: random.Random, *shape: int, dtype: torch.dtype, grad: bool) -> torch.Tensor:
    """Contiguous, in the channels_last way, a part of a larger one, or with a stride of 0 along the batch."""
    kind = rng.randrange(4)
    if kind == 1 and len(shape) == 4:
        t = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
    elif kind == 2:
        t = torch.randn(*shape[:-1], shape[-1] + 3).to(dtype)[..., 1:-2]
    elif kind == 3:
        t = torch.randn(1, *shape[1:]).to(dtype).expand(shape)
    else:
        t = torch.randn(shape).to(dtype)
    return t.detach().requires_grad_(grad)


def _backward(out: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
    parts = [out] if isinstance(out, torch.Tensor) else list(out)
    total = sum(part.float().sum() for part in parts if part.is_floating_point())
    if isinstance(total, torch.Tensor) and total.requires_grad:
        total.backward()


def correlate(rng: random.Random) -> None:
    dtype, grad = rng.choice(_DTYPES), rng.random() < 0.5
    nz, times, channels = rng.randint(1, 3), rng.randint(1, 3), rng.choice((1, 3, 8, 17))
    hz, wz, pad = rng.randint(1, 7), rng.randint(1, 7), rng.randint(0, 2)
    x = _tensor(rng, nz * times, channels, hz + rng.randint(0, 19), wz + rng.randint(0, 19), dtype=dtype, grad=grad)
    if rng.random() < 0.5:
        z = _tensor(rng, nz, channels, hz, wz, dtype=dtype, grad=grad)
        return _backward(siamfast.xcorr_depthwise(z, x, padding=pad))
    outputs = rng.randint(1, 3)
    z = _tensor(rng, nz, outputs * channels, hz, wz, dtype=dtype, grad=grad)
    pairing = rng.choice(("cycle", "all"))
    return _backward(siamfast.xcorr(z, x, scale=1e-3, bias=0.5, padding=pad, pairing=pairing))


def lose(rng: random.Random) -> None:
    n, h, w = rng.randint(1, 5), rng.randint(1, 19), rng.randint(1, 19)
    scores = _tensor(rng, n, 1, h, w, dtype=rng.choice(_DTYPES), grad=True)
    centers = torch.rand(n, 2) * 30 - 5 if rng.random() < 0.5 else None
    options = {
        "r_pos": rng.uniform(1, 30),
        "metric": rng.choice(("l1", "l2")),
        "balance": rng.choice(("sample", "batch")),
    }
    _backward(siamfast.balanced_logistic_loss(scores, centers=centers, **options))


def warp(rng: random.Random) -> None:
    dtype, grad = rng.choice(_DTYPES), rng.random() < 0.5
    n, frames, channels, k = rng.randint(1, 2), rng.randint(1, 3), rng.choice((1, 5, 16, 33)), rng.randint(1, 4)
    hq, wq, hr, wr = (rng.randint(1, 9) for _ in range(4))
    query = _tensor(rng, n, channels, hq, wq, dtype=dtype, grad=grad)
    keys = _tensor(rng, n, frames, channels, hr, wr, dtype=dtype, grad=grad)
    values = _tensor(rng, n, frames, k, hr, wr, dtype=torch.float32, grad=grad)
    radius = rng.choice((None, 2.0, 3.5))
    topk = rng.choice((None, 1, 3)) if radius is None else None
    if topk is not None:
        topk = min(topk, frames * hr * wr)
    returns = ("values", "confidence", "entropy") if rng.random() < 0.3 else ("values",)
    _backward(siamfast.correspondence_warp(query, keys, values, radius=radius, topk=topk, returns=returns))


def crop(rng: random.Random) -> None:
    h, w, m = rng.randint(1, 90), rng.randint(1, 90), rng.randint(1, 3)
    image = torch.randint(0, 256, (h, w, 3), dtype=torch.uint8)
    frame = image.numpy() if rng.random() < 0.5 else image.permute(2, 0, 1)
    centers = [[rng.uniform(-20, w + 20), rng.uniform(-20, h + 20)] for _ in range(m)]
    sizes = [rng.uniform(1, 120) for _ in range(m)]
    rounding = rng.choice(("pixel", "subpixel", "siamfc-pytorch"))
    fill = rng.choice(("mean", "replicate", "reflect"))
    if isinstance(frame, torch.Tensor) and rng.random() < 0.5:
        frame = frame.float()
    siamfast.crop_and_resize(frame, centers, sizes, rng.randint(1, 63), rounding=rounding, fill=fill)


def augment(rng: random.Random) -> None:
    n, side = rng.randint(1, 4), rng.randint(8, 70)
    images = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    how = {"shift": 6.0, "stretch": 0.2, "flip": 0.5, "color_jitter": 0.3, "gray": 0.2, "blur": 0.5, "noise": 6.0}
    out = rng.randint(1, side)
    draws = draw_augmentation(n, (side, side), generator, out_size=(out, out), **how)
    siamfast.augment(images, draws, out_size=out, mean=118, std=60, dtype=rng.choice(_DTYPES))


OPS: dict[str, Callable[[random.Random], None]] = {
    "correlate": correlate, "lose": lose, "warp": warp, "crop": crop, "augment": augment,
}  # fmt: skip


def main() -> int:
    """Call; the sanitizer ends the process where there is something."""
    parser = argparse.ArgumentParser(prog="python -m tests.sanitize.calls")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with siamfast.backend("cpp"):
        for number in range(arguments.calls):
            rng = random.Random(f"{arguments.seed} {number}")
            torch.manual_seed(number)
            torch.set_num_threads(rng.choice((1, 2, 4)))
            list(OPS.values())[number % len(OPS)](rng)
    print(f"{arguments.calls} random calls, clean")
    return 0


if __name__ == "__main__":
    sys.exit(main())
