"""Values and gradients of the Triton kernels against the reference: the first thing that gpu.py does on a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

import siamfast
from benchmarks import bench_xcorr
from benchmarks.bench_xcorr import Shape
from benchmarks.harness import Row


def small(shape: Shape) -> Shape:
    """With few channels and samples; sizes of maps stay, they decide the kernels' blocks."""
    (nz, kc, *z), (nx, c, *x) = shape.z, shape.x
    kernels, channels = min(2, kc // c), min(8, c)
    return shape._replace(z=(min(nz, 2), kernels * channels, *z), x=(min(nx, 2) if nz > 1 else nx, channels, *x))


def correlations(shapes: list[Shape], device: str, tiny: bool) -> Iterator[Row]:
    """Every shape in every dtype, float32 also in its exact products; and the same bits twice."""
    for shape in map(small, shapes) if tiny else shapes:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for tf32 in (True, False) if dtype == torch.float32 else (True,):
                torch.backends.cudnn.allow_tf32 = tf32
                yield _correlation(shape, dtype, device)
    torch.backends.cudnn.allow_tf32 = True


def _correlation(shape: Shape, dtype: torch.dtype, device: str) -> Row:
    from siamfast.ops import _xcorr_triton as ours

    z, x = (torch.randn(size).to(dtype) for size in (shape.z, shape.x))
    if shape.kind == "pixelwise":
        z = z.flatten(2).transpose(1, 2).reshape(len(z), -1, 1, 1)
    near, pad = (z.to(device), x.to(device)), (shape.padding, shape.padding)
    if shape.kind == "depthwise":
        out, again = (ours.depthwise_forward(*near, *pad) for _ in range(2))
        grad = torch.randn(out.shape).to(dtype)
        found = (out, *ours.depthwise_backward(grad.to(device), *near, *pad, [True] * 2))
    else:
        options, needs = (None, None, 1.0, 0.0, 0, 0, False), [True, True, False, False]
        out, again = (ours.full_forward(*near, *options) for _ in range(2))
        grad = torch.randn(out.shape).to(dtype)
        found = (out, *ours.full_backward(grad.to(device), *near, *options, needs)[:2])
    with siamfast.backend("torch"):
        call = bench_xcorr.ours(shape) if shape.kind == "depthwise" else siamfast.xcorr
        truth = bench_xcorr.both_ways(call, z.double(), x.double(), grad.double())
    exact = dtype == torch.float32 and not torch.backends.cudnn.allow_tf32
    row: Row = {"op": f"xcorr {shape.kind}", "case": shape.name, "dtype": str(dtype), "exact": exact}
    row["same_bits"] = torch.equal(out, again)
    for name, f, t in zip(("value", "dz", "dx"), found, truth, strict=True):
        row[name] = float((f.cpu().double() - t.detach()).abs().max() / t.detach().abs().max())
    # TF32 rounds factors to 11 bits, the 16-bit types their results to 8 and 11; exact float32 sums keep some 20.
    allowed = 1e-2 if dtype == torch.bfloat16 else 1e-5 if exact else 2e-3
    row["ok"] = row["same_bits"] and max(row["value"], row["dz"], row["dx"]) < allowed
    return row


def losses(device: str, tiny: bool) -> Iterator[Row]:
    """The loss by its kernel, and joined to the correlation in one, the gradients and the same bits twice."""
    from siamfast.kernels import balanced_logistic_loss, xcorr_balanced_loss

    from siamfast.ops.balanced_logistic_loss import check_options

    samples, channels = (2, 8) if tiny else (64, 256)
    z, x = torch.randn(samples, channels, 6, 6), torch.randn(samples, channels, 22, 22)
    centers = torch.rand(samples, 2) * 17
    for dtype, allowed in ((torch.float32, 5e-3), (torch.bfloat16, 3e-2), (torch.float16, 5e-3)):
        for kind in ("sample", "batch"):
            options = check_options(8, 16, 0, "l1", "half", kind)
            around = centers if kind == "sample" else None
            low = z.to(dtype), x.to(dtype)
            leaves = [t.double().requires_grad_() for t in low]
            with siamfast.backend("reference"):
                scores = siamfast.xcorr(*leaves, scale=0.1)
                scores.retain_grad()
                truth = siamfast.balanced_logistic_loss(
                    scores, balance=kind, centers=None if around is None else around.double()
                )
                truth.backward()
            there = None if around is None else around.to(device)
            near = [t.to(device) for t in low]
            runs = []
            for _ in range(2):
                dx = torch.empty_like(near[1])
                sums, found, dz = xcorr_balanced_loss.launch(
                    *near, None, None, 0.1, 0.0, 0, 0, None, there, options, dx
                )
                loss, slope = balanced_logistic_loss.launch(scores.detach().to(dtype).to(device), None, there, options)
                runs.append((loss, slope, sums[0].sum(), found, dz, dx))
            expected = (truth, scores.grad, truth, scores, *(t.grad for t in leaves))
            names = ("loss", "slope", "fused loss", "fused scores", "fused dz", "fused dx")
            row: Row = {"op": "balanced_logistic_loss", "case": kind, "dtype": str(dtype)}
            for name, value, true in zip(names, runs[0], expected, strict=True):
                assert true is not None
                row[name] = float((value.cpu().double() - true.detach()).abs().max() / true.detach().abs().max())
            row["same_bits"] = all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
            row["ok"] = row["same_bits"] and max(row[name] for name in names) < allowed
            yield row


def crops(device: str) -> Iterator[Row]:
    """Three boxes of one image, one of them over its border, by each rule of rounding and each kind of border."""
    from siamfast.kernels.crop_and_resize import launch

    from siamfast.reference.crop_and_resize import crop_and_resize as reference

    rng = np.random.default_rng(0)
    for dtype, allowed in ((torch.uint8, 1.0), (torch.float32, 2e-3), (torch.bfloat16, 1.0)):
        for rule, border in ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0)):
            image = torch.from_numpy(rng.uniform(0, 200, (1, 3, 40, 60))).to(dtype)
            windows = torch.tensor(
                [[5.0, 4.0, 20.0, 20.0], [-8.0, -3.0, 30.0, 30.0], [30.0, 25.0, 17.0, 17.0]]
            ).double()
            fill = torch.full((1, 3), 100.0, dtype=torch.float64)
            near = image.to(device), windows.to(device), fill.to(device)
            found = launch(*near, 24, 24, border, rule, torch.contiguous_format)
            expected = reference(image, windows, fill, 24, 24, border, rule, False)
            difference = float((found.cpu().double() - expected.double()).abs().max())
            yield {
                "op": "crop_and_resize", "case": f"rule {rule}, border {border}", "dtype": str(dtype),
                "value": difference, "ok": difference <= allowed,
            }  # fmt: skip


def augmentations(device: str) -> Iterator[Row]:
    """Everything drawn at once, in every dtype; the same bits twice."""
    from siamfast.kernels.augment import launch

    from siamfast.data.augmentation import draw_augmentation
    from siamfast.reference.augment import augment as reference

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 61, 75), generator=generator, dtype=torch.uint8)
    draws = draw_augmentation(
        4, (61, 75), generator, out_size=(45, 52), shift=20, stretch=0.4, flip=0.5, color_jitter=0.4, gray=0.2,
        blur=0.7, noise=9, cutout=0.5,
    )  # fmt: skip
    for dtype, allowed in ((torch.float32, 0.01), (torch.bfloat16, 1.0), (torch.float16, 0.5)):  # levels
        for layout in (torch.contiguous_format, torch.channels_last):
            near = images.to(device).contiguous(memory_format=layout)
            found, again = (launch(near, draws, 45, 52, [118.0] * 3, [60.0] * 3, dtype) for _ in range(2))
            expected = reference(images, draws, 45, 52, [118.0] * 3, [60.0] * 3, torch.float64)
            row: Row = {"op": "augment", "case": str(layout), "dtype": str(dtype)}
            row["value"] = float((found.cpu().double() - expected).abs().max()) * 60
            row["same_bits"] = torch.equal(found, again)
            yield row | {"ok": row["same_bits"] and row["value"] <= allowed}


def warps(device: str, tiny: bool) -> Iterator[Row]:
    """The warp with and without a window and a top k, in every kind of product; the same bits twice."""
    from siamfast.ops import _correspondence_warp_raw as raw
    from siamfast.ops import _correspondence_warp_triton as ours

    torch.manual_seed(0)
    side, channels = (9, 5) if tiny else (40, 256)
    modes = {"plain": (-1.0, False, 0), "square": (4.0, False, 0), "circle, top 10": (5.0, True, 10)}
    kinds = ((torch.float32, False), (torch.float16, True), (torch.bfloat16, True), (torch.float32, True))
    for dtype, tf32 in kinds[:2] if tiny else kinds:
        torch.backends.cudnn.allow_tf32 = tf32
        tensors = [torch.randn(2, channels, side, side), torch.randn(2, 2, channels, side, side)]
        tensors = [t.to(dtype) for t in tensors] + [torch.randn(2, 2, 5, side, side), torch.randn(2, 2, side, side)]
        for name, (radius, circle, topk) in modes.items():
            options = (0.2, True, radius, circle, [0] if radius > 0 else [], topk, False, True)
            near = [t.to(device) for t in tensors]
            runs = [ours.forward(*near, *options) for _ in range(2)]
            grads = [torch.randn(2, 5, side, side), *(torch.randn(2, side, side) * (n < 2) for n in range(3))]
            there = tuple(g.to(device) for g in grads)
            backs = [ours.backward(there, runs[0], *near, *options, needs=[True] * 4) for _ in range(2)]
            leaves = [t.double().requires_grad_() for t in tensors]
            exact = raw._reference(*leaves, *options)
            total = sum((o * g.double()).sum() for o, g in zip(exact[:4], grads, strict=True))
            slopes = torch.autograd.grad(total, leaves)
            row: Row = {"op": "correspondence_warp", "case": name, "dtype": str(dtype), "exact": not tf32}
            row["same_bits"] = all(
                torch.equal(a, b) for a, b in zip((*runs[0], *backs[0]), (*runs[1], *backs[1]), strict=True)
            )
            names = ("values", "confidence", "entropy", "lse", "dquery", "dkeys", "dvalues", "dbias")
            pairs = zip(names, (*runs[0][:4], *backs[0]), (*exact[:4], *slopes), strict=True)
            for what, found, true in pairs:
                row[what] = float((found.cpu().double() - true.detach()).abs().max() / true.detach().abs().max())
            # Rows in float16 move a logit by 2^-11 of 1 / temperature, which makes another key the tenth of some
            # queries (3 to 5 % of these small maps): then the share of queries with other values is what counts.
            changed = (runs[0][0].cpu().double() - exact[0]).abs().amax(1) > 0.02
            row["changed"] = float(changed.double().mean())
            worst = max(row[what] for what in names)
            good = worst < (2e-4 if not tf32 else 3e-2) or (tf32 and topk > 0 and row["changed"] < 0.1)
            row["ok"] = row["same_bits"] and good
            yield row
    torch.backends.cudnn.allow_tf32 = True
