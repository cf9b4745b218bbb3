"""Run by test_correspondence_warp.py in the interpreter: the warp's kernels on CPU tensors against the reference."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import numpy as np
import torch
from siamfast.kernels import chips
from siamfast.kernels.correspondence_warp import launch, launch_dense
from siamfast.kernels.correspondence_warp.launch_backward import ends_of
from siamfast.kernels.correspondence_warp.task import make_task, product_of, through_unit_rows, unit_rows
from siamfast.kernels.correspondence_warp.windows import least_keys as fewest_keys
from siamfast.kernels.correspondence_warp.windows import windows

from siamfast.ops.correspondence_warp import autograd as raw
from siamfast.ops.correspondence_warp import triton as ours
from siamfast.ops.correspondence_warp.call import Gradients, Options, Outputs, Tensors
from siamfast.ops.correspondence_warp.reference import allowed_keys
from tests.kernels.interpreted_xcorr import in_layout

NAMES = ("values", "confidence", "entropy", "lse", "indices")
GRADS = ("query", "keys", "values", "bias")


def draw(rng: np.random.Generator, number: int) -> tuple[list[torch.Tensor], Options]:
    n, channels, k = int(rng.integers(1, 3)), int(rng.choice([1, 3, 20])), int(rng.choice([0, 1, 3, 4, 5, 20]))
    frames, hq, wq = (int(v) for v in rng.integers(1, [4, 12, 12]))
    h, w = (hq, wq) if rng.random() < 0.6 else tuple(int(v) for v in rng.integers(1, 12, 2))
    if number == 0:  # more channels than one block of a row, more values than one of theirs
        channels, k = 300, 70
    dtype = (torch.float32, torch.bfloat16, torch.float16)[number % 3]
    # The interpreter's products are exact; rows in float16 (TF32 allowed) are not, so most cases store them whole.
    torch.backends.cudnn.allow_tf32 = bool(number % 4 == 3)
    shapes = (n, channels, hq, wq), (n, frames, channels, h, w), (n, frames, k, h, w), (n, frames, h, w)
    tensors = [torch.randn(shape) for shape in shapes]
    for t in tensors[:2]:
        # Not near 0: the slopes of a row of one channel are divided by its length, and so is what their sums round.
        t.copy_((t + 0.1 * t.sign()).to(dtype))
    tensors = [
        in_layout(t.to(dtype), int(rng.choice([0, 2]))) if t.dim() == 4 else t.to(dtype) for t in tensors[:2]
    ] + tensors[2:]
    far = max(np.ceil([h / hq, w / wq]))
    radius = -1.0 if rng.random() < 0.4 else float(rng.choice([0.0, 1.0, 2.5, 4.0]) + far)
    exempt = [int(rng.integers(frames))] if rng.random() < 0.3 else []
    topk = int(rng.choice([0, 0, 1, 3, 7]))
    topk = min(topk, frames * h * w)
    post = bool(topk and rng.random() < 0.3)
    # The interpreter knows bfloat16 poorly; the launcher reads it in float32 after one load.
    return tensors, Options(
        float(rng.choice([0.1, 1.0])),
        bool(rng.random() < 0.7),
        radius,
        bool(rng.random() < 0.5),
        exempt,
        topk,
        post,
        True,
    )


def truth(tensors: list[torch.Tensor], options: Options, slopes: list[torch.Tensor]) -> tuple[Any, Any]:
    leaves = [t.double().detach().requires_grad_() for t in tensors]
    outputs = raw.specification(Tensors(*leaves), options)
    total = sum((f * s.double()).sum() for f, s in zip(outputs[:4], slopes, strict=True))
    return outputs, torch.autograd.grad(total, leaves, allow_unused=True)


def close(case: Any, name: str, result: torch.Tensor, exact: torch.Tensor, allowed: float) -> None:
    assert result.shape == exact.shape, (case, name, result.shape, exact.shape)
    if result.numel():
        worst = float((result.double() - exact).abs().max() / (1 + exact.abs().max()))
        assert worst <= allowed, (case, name, worst, allowed)


def check_one_case(rng: np.random.Generator, number: int) -> None:
    tensors, options = draw(rng, number)
    topk, post = options.topk, options.post
    n, _, hq, wq = tensors[0].shape
    case = [tuple(t.shape) for t in tensors], tensors[0].dtype, options, torch.backends.cudnn.allow_tf32
    outputs = ours.forward(Tensors(*tensors), options)
    slopes = [torch.randn(outputs[0].shape), *(torch.randn(n, hq, wq) for _ in range(3))]
    if topk:
        slopes[3].zero_()
    exact, gradients = truth(tensors, options, slopes)
    # Rows in float16 round each logit by 2^-11 of its size, up to 1 / T or |q| |r| / T; exact rows by float32's.
    stored = product_of(tensors[0], options.normalize)[0]
    scale = (
        1.0 if options.normalize else float(tensors[0].float().norm(dim=1).max() * tensors[1].float().norm(dim=2).max())
    ) / options.temperature
    exactly = stored == torch.float32
    error = (2e-6 if exactly else 1e-3) * (1 + scale) * 4
    if topk and not exactly:
        return  # another logit may be the k-th, so the outputs are not comparable
    for name, f, t in zip(NAMES, outputs, exact, strict=True):
        if name == "indices":
            if exactly:
                assert torch.equal(f, t), (case, name)
        else:
            close(case, name, f, t, error + (torch.finfo(f.dtype).eps if name == "values" else 0))
    if post:
        return  # weights of all keys: the raw op goes through the torch backend
    needs = [True] * 4
    given = Outputs(*(e.float() for e in exact[:4]), exact[4])
    back = ours.backward(Gradients(*slopes), given, Tensors(*tensors), options, needs)
    for name, f, t, like in zip(GRADS, back, gradients, tensors, strict=True):
        t = torch.zeros_like(like).double() if t is None else t
        close(case, "gradient of " + name, f, t, 40 * error + 2 * torch.finfo(like.dtype).eps)


def split() -> None:
    """Few queries and many keys: the keys are split, in three here, and joined, with the same bits on two runs."""
    torch.backends.cudnn.allow_tf32 = False
    tensors = [
        torch.randn(1, 8, 4, 4),
        torch.randn(1, 2, 8, 18, 20),
        torch.randn(1, 2, 3, 18, 20),
        torch.randn(1, 2, 18, 20),
    ]
    for topk in (0, 5):
        options = Options(0.2, True, -1.0, False, [], topk, post=False, details=True)
        outputs = ours.forward(Tensors(*tensors), options)
        exact, _ = truth(tensors, options, [torch.ones(1, 3, 4, 4), *[torch.zeros(1, 4, 4)] * 3])
        for name, f, t in zip(NAMES, outputs, exact, strict=True):
            close("split", name, f, t, 1e-5)
        assert all(torch.equal(a, b) for a, b in zip(outputs, ours.forward(Tensors(*tensors), options), strict=True))


def frames_of_one_cell() -> None:
    torch.backends.cudnn.allow_tf32 = False
    tensors = [torch.randn(2, 4, 3, 5), torch.randn(2, 3, 4, 1, 1), torch.randn(2, 3, 6, 1, 1), torch.randn(2, 3, 1, 1)]
    for topk in (0, 2):
        options = Options(1.0, True, -1.0, False, [], topk, post=False, details=True)
        slopes = [torch.randn(2, 6, 3, 5), *[torch.zeros(2, 3, 5)] * 3]
        exact, gradients = truth(tensors, options, slopes)
        for name, f, t in zip(NAMES, ours.forward(Tensors(*tensors), options), exact, strict=True):
            close("one cell", name, f, t, 1e-5)
        given = Outputs(*(e.float() for e in exact[:4]), exact[4])
        back = ours.backward(Gradients(*slopes), given, Tensors(*tensors), options, [True] * 4)
        for name, f, t in zip(GRADS, back, gradients, strict=True):
            close("one cell", "gradient of " + name, f, t, 1e-4)


def some_queries_at_a_time() -> None:
    """The gradients without a window, whose logits would not fit at once; of a loss so small that its slopes would
    vanish in float16; and rows in float16."""
    options = Options(0.5, True, -1.0, False, [], 0, post=False, details=True)
    tensors = [torch.randn(2, 8, 9, 9), torch.randn(2, 2, 8, 5, 6), torch.randn(2, 2, 3, 5, 6), torch.randn(2, 2, 5, 6)]
    for tf32, size in ((False, 1.0), (True, 1e-25)):
        torch.backends.cudnn.allow_tf32 = tf32
        slopes = [torch.randn(2, 3, 9, 9) * size, *(torch.randn(2, 9, 9) * size for _ in range(3))]
        exact, gradients = truth(tensors, options, slopes)
        given = Outputs(*(e.detach().float() for e in exact[:4]), exact[4])
        with (
            mock.patch.object(launch_dense, "MOST_BYTES", 64 * 4 * 2 * 60),
            mock.patch.object(launch_dense, "PROGRAMS", 4),
        ):
            back = ours.backward(Gradients(*slopes), given, Tensors(*tensors), options, [True] * 4)
        for name, f, t in zip(GRADS, back, gradients, strict=True):
            # Rows in float16 round a logit of up to 2 by 2^-11 of it.
            close("in parts", "gradient of " + name, f / size, t / size, 1e-2 if tf32 else 1e-5)


def ties_and_nan() -> None:
    torch.backends.cudnn.allow_tf32 = False
    zero, values = torch.zeros(1, 4, 5, 5), torch.arange(25.0).view(1, 1, 1, 5, 5)
    out, *_, indices = ours.forward(
        Tensors(zero, zero.unsqueeze(1), values, None), Options(1.0, True, -1.0, False, [], 3, post=False, details=True)
    )
    assert indices[0, :, 2, 2].tolist() == [0, 1, 2]
    assert torch.allclose(out, torch.ones_like(out))
    query, keys = torch.randn(1, 4, 5, 5), torch.randn(1, 1, 4, 5, 5)
    query[0, 1, 2, 3] = float("nan")
    for topk in (0, 3):
        options = Options(1.0, True, -1.0, False, [], topk, post=False, details=False)
        out = ours.forward(Tensors(query, keys, values, None), options).values
        assert out.isnan().nonzero().tolist() == [[0, 0, 2, 3]], topk


def a_bad_query() -> None:
    """A gradient that is not finite spoils the slopes of its own query, not those of other queries."""
    torch.backends.cudnn.allow_tf32 = True  # slopes in units of the largest
    query, keys, values = torch.randn(1, 4, 5, 5), torch.randn(1, 1, 4, 5, 5), torch.randn(1, 1, 2, 5, 5)
    options, none = Options(1.0, True, -1.0, False, [], 0, post=False, details=True), torch.zeros(1, 5, 5)
    outputs = ours.forward(Tensors(query, keys, values, None), options)
    slopes = Gradients(torch.ones(1, 2, 5, 5), none, none, none)
    slopes.values[0, 1, 2, 3] = float("inf")
    d_query = ours.backward(slopes, outputs, Tensors(query, keys, values, None), options, [True, False, False, False])[
        0
    ]
    assert (~d_query.isfinite()).nonzero()[:, 2:].unique(dim=0).tolist() == [[2, 3]]


def ends_and_units(rng: np.random.Generator) -> None:
    """The four numbers of each query, and a bound of its sample's slopes which a query that is not finite does not
    move; of more channels than are added at once, and none."""
    torch.backends.cudnn.allow_tf32 = True  # rows in float16, whose slopes are in units
    for k in (0, 1, int(rng.integers(17, 33))):
        tensors = [torch.randn(2, 4, 9, 9), torch.randn(2, 1, 4, 5, 6), torch.randn(2, 1, k, 5, 6)]
        task = make_task(Tensors(*tensors, None), Options(1.0, True, -1.0, False, [], 0, post=False, details=True))
        g, warped = torch.randn(2, 2, k, 81)
        slopes, outputs = (torch.randn(3, 2, 81).double() for _ in range(2))
        slopes[0, 0, 5] = float("nan")
        given = Outputs(warped, *outputs.float(), torch.zeros(2, 81).long())
        found = ends_of(task, grads=Gradients(g, *slopes.float()), outputs=given)
        (of_confidence, of_entropy, of_lse), (confidence, entropy, lse) = slopes, outputs
        certain = confidence * of_confidence
        shared = of_lse - (g.double() * warped).sum(1) - certain - of_entropy * entropy
        close(
            k, "ends", found.numbers.nan_to_num(), torch.stack((lse, shared, of_entropy, certain), 1).nan_to_num(), 1e-5
        )
        most = (g.double().abs() * tensors[2].flatten(3)[:, 0].abs().amax(2)[..., None]).sum(1) + shared.abs()
        bound = (confidence * most + of_entropy.abs() + certain.abs()).nan_to_num(0.0)
        close(k, "units", found.units * launch_dense.LARGEST, bound.amax(1), 1e-5)


def rows_of_many_channels(rng: np.random.Generator) -> None:
    """Rows of one block and of several, and the way back from their slopes, by themselves: a warp's bounds would hide
    a part of either. Each is a sum of float32 numbers, of which 3e-6 is a dozen roundings."""
    for channels in (3, 513, int(rng.integers(514, 1200))):
        features = in_layout(torch.randn(4, channels, 3, 7), int(rng.choice([0, 2]))).unflatten(0, (2, 2))
        padded = 16 if channels == 3 else channels + int(rng.integers(40))
        rows, inverse = unit_rows(features, torch.float32, padded, 2.0, normalize=True)
        slopes, units = torch.randn(2, 2, 21, padded), torch.rand(2)
        back = through_unit_rows(slopes, units, features, inverse, 2.0, normalize=True)
        leaf = features.double().requires_grad_()
        exact = 2 * torch.nn.functional.normalize(leaf, dim=2).flatten(3).transpose(2, 3)
        gone = torch.autograd.grad(exact, leaf, slopes[..., :channels] * units.view(2, 1, 1, 1).double())[0]
        assert not rows[..., channels:].any(), channels
        close(channels, "rows", rows[..., :channels], exact.detach(), 3e-6)
        close(channels, "slopes", back, gone, 3e-6)


def keys_without_weight() -> None:
    """A bias of -inf takes a key away, as a mask does; entropy and gradients stay finite, with and without a window."""
    query, keys, values = torch.randn(1, 4, 5, 5), torch.randn(1, 1, 4, 5, 5), torch.randn(1, 1, 2, 5, 5)
    tensors = [query, keys, values, torch.randn(1, 1, 5, 5)]
    tensors[3][0, 0, 1, 2] = float("-inf")
    slopes = [torch.randn(1, 2, 5, 5), *(torch.randn(1, 5, 5) for _ in range(3))]
    for tf32, radius in ((False, -1.0), (True, -1.0), (False, 3.0)):
        torch.backends.cudnn.allow_tf32 = tf32
        options = Options(1.0, True, radius, False, [], 0, post=False, details=True)
        exact, gradients = truth(tensors, options, slopes)
        for name, f, t in zip(NAMES[:4], ours.forward(Tensors(*tensors), options), exact, strict=False):
            close("a key masked", name, f, t, 1e-2 if tf32 else 1e-5)
        given = Outputs(*(e.detach().float() for e in exact[:4]), exact[4])
        back = ours.backward(Gradients(*slopes), given, Tensors(*tensors), options, [True] * 4)
        for name, f, t in zip(GRADS, back, gradients, strict=True):
            close("a key masked", "gradient of " + name, f, t, 1e-2 if tf32 else 1e-4)


def tiles_of_sm_90() -> None:
    """Gradients in a window of rows in float16 of several blocks."""
    query, keys, values = torch.randn(1, 300, 9, 10), torch.randn(1, 1, 300, 9, 10), torch.randn(1, 1, 3, 9, 10)
    tensors = [query, keys, values, torch.randn(1, 1, 9, 10)]
    slopes = [torch.randn(1, 3, 9, 10), *(torch.randn(1, 9, 10) for _ in range(3))]
    torch.backends.cudnn.allow_tf32 = True
    for circle in (False, True):
        options = Options(1.0, True, 3.0, circle, [], 0, post=False, details=True)
        exact, gradients = truth(tensors, options, slopes)
        given = Outputs(*(e.detach().float() for e in exact[:4]), exact[4])
        with mock.patch.object(chips, "chip_of", return_value=90):
            back = ours.backward(Gradients(*slopes), given, Tensors(*tensors), options, [True] * 4)
        for name, f, t in zip(GRADS, back, gradients, strict=True):
            close(f"sm_90, {circle}", "gradient of " + name, f, t, 1e-2)


def ranks(rng: np.random.Generator) -> None:
    """By its table a circle on grids that differ has the reference's keys, also where one is exactly at the radius; by
    whole squares on grids that are alike."""
    for _ in range(40):
        queries, keys = (tuple(int(v) for v in rng.integers(1, 40, 2)) for _ in range(2))
        if queries == keys:
            continue
        away = [np.arange(k) - ((rng.integers(q) + 0.5) * k / q - 0.5) for q, k in zip(queries, keys, strict=True)]
        at_a_key = float(np.sqrt(rng.choice(away[0]) ** 2 + rng.choice(away[1]) ** 2))
        for radius in (at_a_key, float(rng.random() * 20), 2.5, 1e5):
            table = windows(queries, keys, radius, True, torch.device("cpu"), bool(rng.integers(2)))
            assert table.kind == "ranks"
            rows = queries[0] * keys[0]
            reach = table.ranks[:rows].view(queries[0], 1, keys[0], 1)
            near = table.ranks[rows:].view(1, queries[1], 1, keys[1]) < reach
            exact = allowed_keys(queries, (1, *keys), radius, "circle", ())
            assert torch.equal(near.reshape(exact.shape), exact), (queries, keys, radius)
            limit = windows(keys, keys, radius, True, torch.device("cpu"), False).limit
            assert all((n < limit) == (n < radius * radius) for n in range(40**2 * 2)), radius


def least_keys() -> None:
    """No window has fewer keys than the bound."""
    for queries, keys in (((9, 7), (9, 7)), ((5, 9), (10, 6))):
        for radius in (1.5, 2.0, 3.7, 20.0):
            for circle in (False, True):
                least = allowed_keys(queries, (2, *keys), radius, "circle" if circle else "square", (1,)).sum(1).min()
                bound = fewest_keys(queries, keys, 2, radius, circle, 1)
                assert bound <= int(least), (queries, keys, radius, circle)
                assert bound == int(least) or (circle and queries != keys)


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else int(np.random.default_rng().integers(2**31))
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    try:
        for number in range(int(sys.argv[2]) if len(sys.argv) > 2 else 16):
            check_one_case(rng, number)
        with mock.patch.object(launch, "LEAST_KEYS", 200):
            split()
        frames_of_one_cell()
        some_queries_at_a_time()
        ties_and_nan()
        a_bad_query()
        keys_without_weight()
        tiles_of_sm_90()
        ends_and_units(rng)
        rows_of_many_channels(rng)
        least_keys()
        ranks(rng)
    except BaseException:
        print(f"seed {seed}", file=sys.stderr)
        raise
    print("every case")


if __name__ == "__main__":
    main()
