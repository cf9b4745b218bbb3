"""The warp equals its materialized form and that of label propagation projects, without storing an N x N matrix."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import siamfast

NAMES = ("values", "flow", "confidence", "entropy", "lse", "indices")


@settings(max_examples=80)
@given(st.data())
def test_warp_equals_its_reference(data: st.DataObject) -> None:
    n, c, k = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 5)), data.draw(st.integers(0, 3))
    t = data.draw(st.sampled_from([None, 1, 3]))
    hq, wq, hr, wr = (data.draw(st.integers(1, 6)) for _ in range(4))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    frames = () if t is None else (t,)
    inputs = [draw(n, c, hq, wq), draw(n, *frames, c, hr, wr), draw(n, *frames, k, hr, wr), draw(n, *frames, hr, wr)]
    mode = data.draw(st.sampled_from(["joint", "mean"]))
    options: dict[str, Any] = {
        "temperature": data.draw(st.sampled_from([0.1, 1.0])),
        "normalize": data.draw(st.booleans()),
        "radius": data.draw(st.sampled_from([None, 3.0, 7.0])),
        "window": data.draw(st.sampled_from(["square", "circle"])),
        "topk": data.draw(st.sampled_from([None, 1, 3, 1000])),
        "topk_norm": data.draw(st.sampled_from(["pre", "post"])),
        "frames": mode,
        "global_frames": (0,) if mode == "joint" and data.draw(st.booleans()) else (),
    }
    if options["radius"] == 3.0 and max(hr / hq, wr / wq) > 3:
        options["radius"] = None  # such a window may contain no key, which is another error

    def run() -> tuple[Any, Any]:
        out = siamfast.correspondence_warp(*inputs[:3], key_bias=inputs[3], returns=NAMES, **options)
        total = sum((o * torch.linspace(1, 2, o.numel(), dtype=o.dtype).view(o.shape)).sum() for o in out[:5])
        return out, torch.autograd.grad(total, inputs)

    ours = run()
    with siamfast.backend("reference"):
        theirs = run()
    torch.testing.assert_close(ours, theirs)


def _features(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_plain_warp_equals_scaled_dot_product_attention() -> None:
    q, r, v = _features(2, 8, 4, 5), _features(2, 8, 6, 3), _features(2, 3, 6, 3)
    flat = [t.flatten(2).transpose(1, 2) for t in (q, r, v)]
    expected = F.scaled_dot_product_attention(*flat, scale=1 / 0.5).transpose(1, 2).unflatten(2, (4, 5))
    torch.testing.assert_close(siamfast.correspondence_warp(q, r, v, temperature=0.5, normalize=False), expected)


def test_several_frames_share_one_softmax() -> None:
    q, r, v = _features(1, 8, 4, 4), _features(1, 3, 8, 4, 4), _features(1, 3, 2, 4, 4)
    side_by_side = siamfast.correspondence_warp(q, torch.cat(r.unbind(1), 3), torch.cat(v.unbind(1), 3))
    torch.testing.assert_close(siamfast.correspondence_warp(q, r, v), side_by_side)


def test_mean_over_frames_equals_the_mean_of_single_warps() -> None:
    q, r, v = _features(2, 8, 4, 4), _features(2, 3, 8, 4, 4), _features(2, 3, 2, 4, 4)
    each = [siamfast.correspondence_warp(q, r[:, t], v[:, t], topk=4, topk_norm="post") for t in range(3)]
    mean = siamfast.correspondence_warp(q, r, v, topk=4, topk_norm="post", frames="mean")
    torch.testing.assert_close(mean, torch.stack(each).mean(0))


@pytest.mark.parametrize(("window", "keys"), [("square", 9), ("circle", 5)])
def test_windows_are_closed_squares_and_open_circles(window: str, keys: int) -> None:
    """Radius 1 leaves 3 x 3 keys of a square; a circle of 1.2 leaves the cross; at 1 exactly, only the cell itself."""
    q = torch.zeros(1, 2, 7, 7)
    radius = 1 if window == "square" else 1.2
    affinity = siamfast.correspondence_affinity(q, q, radius=radius, window=window)[0, 3, 3, 0]
    assert (affinity > 0).sum() == keys
    torch.testing.assert_close(affinity[affinity > 0], torch.full((keys,), 1 / keys))
    strict = siamfast.correspondence_affinity(q, q, radius=1, window="circle")[0, 3, 3, 0]
    assert (strict > 0).sum() == 1


@pytest.mark.parametrize("backend", ["reference", "torch", "cpp"])
@pytest.mark.parametrize("square", [2, 13, 32])
def test_a_key_at_a_circles_radius_is_the_same_for_every_backend(backend: str, square: int) -> None:
    """Squares decide: roots of 2 and 32 in PyTorch's float64 are below those of C where MKL computes them."""
    if not siamfast.ops.correspondence_warp.can_run(backend, "cpu", torch.float32):
        pytest.skip(f"{backend} does not run here")
    radius = math.sqrt(square)
    for side in (13, 26):  # of the queries' grid; the keys have 13 cells a side
        query, keys = torch.zeros(1, 1, side, side), torch.zeros(1, 1, 13, 13)
        with siamfast.backend(backend):
            lse = siamfast.correspondence_warp(query, keys, keys, radius=radius, window="circle", returns=["lse"])
        places = [(i + 0.5) * 13 / side - 0.5 for i in range(side)]
        squares = [[(i - place) ** 2 for i in range(13)] for place in places]
        near = [[sum(a + b < radius * radius for a in y for b in x) for x in squares] for y in squares]
        assert lse[0].exp().round().int().tolist() == near


def test_windows_at_the_border_are_clipped_not_shifted() -> None:
    q = torch.zeros(1, 2, 7, 7)
    corner = siamfast.correspondence_affinity(q, q, radius=2)[0, 0, 0, 0]
    assert (corner > 0).nonzero().tolist() == [[y, x] for y in range(3) for x in range(3)]


def test_global_frames_are_exempt_from_the_radius() -> None:
    q, r = torch.zeros(1, 2, 5, 5), torch.zeros(1, 2, 2, 5, 5)
    affinity = siamfast.correspondence_affinity(q, r, radius=0, global_frames=(0,))[0, 2, 2]
    assert (affinity[0] > 0).all()
    assert (affinity[1] > 0).sum() == 1


def test_ties_go_to_the_lower_index() -> None:
    q = torch.zeros(1, 2, 3, 3)
    values = torch.arange(9.0).view(1, 1, 3, 3)
    warped, indices = siamfast.correspondence_warp(q, q, values, topk=2, returns=("values", "indices"))
    assert indices[0, :, 1, 1].tolist() == [0, 1]
    torch.testing.assert_close(warped, torch.full((1, 1, 3, 3), 0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("topk", [None, 3])
def test_an_empty_batch_gives_values_without_details(dtype: torch.dtype, topk: int | None) -> None:
    query = torch.zeros(0, 4, 3, 3, dtype=dtype, requires_grad=True)
    values = siamfast.correspondence_warp(query, query, query[:, :1], topk=topk)
    assert values.shape == (0, 1, 3, 3)
    assert torch.autograd.grad(values.sum(), query)[0].shape == query.shape


@pytest.mark.parametrize("topk", [None, 3])
def test_among_equal_keys_the_first_has_the_confidences_slope(topk: int | None) -> None:
    query = _features(1, 4, 2, 2)
    keys = query[:, :, :1, :1].expand(1, 4, 3, 4).clone()  # all the same
    slopes = []
    for name, dtype in (("reference", torch.float64), ("torch", torch.float64), ("cpp", torch.float32)):
        bias = torch.zeros(1, 3, 4, dtype=dtype, requires_grad=True)
        with siamfast.backend(name):
            confidence = siamfast.correspondence_warp(
                query.to(dtype), keys.to(dtype), keys.to(dtype), key_bias=bias, topk=topk, returns="confidence"
            )
        slopes.append(torch.autograd.grad(confidence.sum(), bias)[0].double())
    count = topk or 12
    assert float(slopes[0][0, 0, 0]) == pytest.approx(4 * (1 / count - 1 / count**2))  # of 4 queries
    for ours in slopes[1:]:
        torch.testing.assert_close(ours, slopes[0], rtol=1e-5, atol=1e-6)  # a few float32 roundings


def test_post_normalization_keeps_the_softmax_weights() -> None:
    q, r, v = _features(1, 4, 3, 3), _features(1, 4, 3, 3), torch.ones(1, 1, 3, 3, dtype=torch.float64)
    pre = siamfast.correspondence_warp(q, r, v, topk=3)
    post = siamfast.correspondence_warp(q, r, v, topk=3, topk_norm="post", temperature=1.0)
    torch.testing.assert_close(pre, torch.ones_like(pre))
    assert (post < 1).all()


def test_a_topk_above_the_number_of_keys_means_all() -> None:
    q, r, v = _features(1, 4, 3, 3), _features(1, 4, 3, 3), _features(1, 2, 3, 3)
    torch.testing.assert_close(siamfast.correspondence_warp(q, r, v, topk=99), siamfast.correspondence_warp(q, r, v))


def test_zero_features_match_all_keys_equally() -> None:
    v = _features(1, 2, 3, 3)
    zero = torch.zeros(1, 4, 3, 3, dtype=torch.float64)
    warped = siamfast.correspondence_warp(zero, _features(1, 4, 3, 3), v)
    torch.testing.assert_close(warped, v.mean((2, 3), keepdim=True).expand_as(warped))


def test_nan_in_a_key_reaches_only_the_queries_that_see_it() -> None:
    q, r, v = (t.float() for t in (_features(1, 4, 9, 9), _features(1, 4, 9, 9), _features(1, 1, 9, 9)))
    r[0, 0, 4, 4] = float("nan")
    for backend in ("torch", "cpp"):
        if not siamfast.ops.correspondence_warp.can_run(backend, "cpu", torch.float32):
            continue
        with siamfast.backend(backend):
            is_nan = siamfast.correspondence_warp(q, r, v, radius=2)[0, 0].isnan()
        expected = torch.zeros(9, 9, dtype=torch.bool)
        expected[2:7, 2:7] = True
        assert torch.equal(is_nan, expected), backend


def test_radius_0_copies_the_values_where_they_are() -> None:
    q, r, v = _features(2, 4, 3, 5), _features(2, 4, 3, 5), _features(2, 3, 3, 5)
    torch.testing.assert_close(siamfast.correspondence_warp(q, r, v, radius=0), v)


def test_on_different_grids_the_window_is_centered_at_the_scaled_cell() -> None:
    """Query 1 of 3 lies at place 4 of 9; radius 1 leaves keys 3 to 5. Query 0 lies at 1: keys 0 to 2."""
    affinity = siamfast.correspondence_affinity(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 9, 9), radius=1)
    assert (affinity[0, 1, 1, 0] > 0).nonzero().tolist() == [[y, x] for y in (3, 4, 5) for x in (3, 4, 5)]
    assert (affinity[0, 0, 0, 0] > 0).nonzero().tolist() == [[y, x] for y in (0, 1, 2) for x in (0, 1, 2)]


def test_one_cell_maps_to_itself() -> None:
    cell = _features(1, 4, 1, 1)
    torch.testing.assert_close(siamfast.correspondence_warp(cell, cell, cell, radius=0), cell)


def test_flow_is_the_matchs_place_minus_the_querys() -> None:
    features = torch.eye(36, dtype=torch.float64).view(1, 36, 6, 6)
    moved = features.roll((1, 2), (2, 3))  # what was at (y, x) is at (y + 1, x + 2)
    values = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    flow = siamfast.correspondence_warp(moved, features, values, temperature=0.01, returns="flow")
    torch.testing.assert_close(flow[0, :, 3, 4], torch.tensor([-2.0, -1.0], dtype=torch.float64))


def test_flow_and_details_are_float32_for_any_dtype_of_values() -> None:
    """bfloat16 has 8 bits: a place of 100 cells would be off by a quarter of a cell."""
    q, r, v = torch.randn(1, 16, 4, 100), torch.randn(1, 16, 4, 100), torch.rand(1, 1, 4, 100).bfloat16()
    values, flow = siamfast.correspondence_warp(q, r, v, returns=("values", "flow"))
    assert values.dtype == torch.bfloat16
    torch.testing.assert_close(flow, siamfast.correspondence_warp(q, r, v.float(), returns="flow"))


def test_indices_of_each_frame_keep_their_axis_for_one_frame() -> None:
    q, v = _features(1, 4, 3, 3), _features(1, 1, 3, 3)
    for frames in (1, 2):
        r, several = q.unsqueeze(1).expand(-1, frames, -1, -1, -1), v.unsqueeze(1).expand(-1, frames, -1, -1, -1)
        indices = siamfast.correspondence_warp(q, r, several, frames="mean", topk=2, returns="indices")
        assert indices.shape == (1, frames, 2, 3, 3)


def test_under_autocast_mixed_dtypes_are_cast_to_float32() -> None:
    q, r, v = torch.randn(1, 8, 4, 4).bfloat16(), torch.randn(1, 8, 4, 4), torch.rand(1, 1, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        result = siamfast.correspondence_warp(q, r, v)
    torch.testing.assert_close(result, siamfast.correspondence_warp(q.float(), r, v))


def test_entropy_confidence_and_lse_equal_their_formulas() -> None:
    zero, v = torch.zeros(1, 4, 4, 4), torch.zeros(1, 1, 4, 4)
    confidence, entropy, lse = siamfast.correspondence_warp(zero, zero, v, returns=("confidence", "entropy", "lse"))
    torch.testing.assert_close(confidence, torch.full((1, 4, 4), 1 / 16))
    torch.testing.assert_close(entropy, torch.full((1, 4, 4), 16.0).log())
    torch.testing.assert_close(lse, torch.full((1, 4, 4), 16.0).log())


def test_affinity_is_the_matrix_that_the_warp_applies() -> None:
    q, r, v = _features(1, 4, 4, 5), _features(1, 2, 4, 3, 5), _features(1, 2, 3, 3, 5)
    for options in ({"topk": 4}, {"radius": 2}, {"frames": "mean"}):
        affinity = siamfast.correspondence_affinity(q, r, **options)
        expected = torch.einsum("nyxtij,ntkij->nkyx", affinity, v)
        torch.testing.assert_close(siamfast.correspondence_warp(q, r, v, **options), expected)


def test_nan_in_a_query_stays_in_its_cell() -> None:
    q, r, v = _features(1, 4, 3, 3), _features(1, 4, 3, 3), _features(1, 1, 3, 3)
    q[0, 0, 1, 1] = float("nan")
    assert siamfast.correspondence_warp(q, r, v).isnan().nonzero().tolist() == [[0, 0, 1, 1]]


MEMORY = """
import os, re, torch, siamfast
torch.set_num_threads(1)
def now(name): return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
def run(height, width, options, backward):
    q, r, v = (torch.randn(1, c, height, width, requires_grad=backward) for c in (8, 8, 2))
    found = siamfast.correspondence_warp(q, r, v, **options)
    if backward:
        found.sum().backward()
for options, side in ({}, 120), ({"radius": 12}, 200), ({"topk": 10}, 120):
    for backward in False, True:
        if os.fork() == 0:  # memory that one call has left would hide what another takes
            run(16, 16, options, backward)
            for height, width in ((60, 108), (side, side)):
                open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
                before = now("VmRSS")
                run(height, width, options, backward)
                print(height * width, options, backward, now("VmHWM") - before, sep=";", flush=True)
            os._exit(0)
        assert os.wait()[1] == 0
"""


def test_memory_is_linear_in_the_cells() -> None:
    """One affinity of 6,480 cells is 168 MB in float32, of 14,400 cells 829 MB; in a window, of 40,000 cells, 50 MB in
    bfloat16. The maps of 8 + 8 + 2 channels, their gradients and copies in the kernel's layout come to some 20 MB at
    40,000 cells."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    rows = [line.split(";") for line in done.stdout.splitlines()]
    assert len(rows) == 12
    for cells, options, backward, grown in rows:
        assert float(grown) < max(10, int(cells) / 1000), (cells, options, backward)


Q, R, V = torch.zeros(1, 4, 3, 3), torch.zeros(1, 2, 4, 3, 3), torch.zeros(1, 2, 1, 3, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: siamfast.correspondence_warp(Q, R[:, :0], V[:, :0]), ValueError, "reference: .*at least one frame"),
        (lambda: siamfast.correspondence_warp(Q, R[:, :, :2], V), ValueError, "reference: got shape"),
        (lambda: siamfast.correspondence_warp(Q, R, V[:, 0]), ValueError, "values: got shape"),
        (lambda: siamfast.correspondence_warp(Q, R.double(), V), TypeError, "reference: got dtype torch.float64"),
        (lambda: siamfast.correspondence_warp(Q, R, V, temperature=0), ValueError, "temperature: got 0, expected"),
        (lambda: siamfast.correspondence_warp(Q, R, V, radius=-1), ValueError, "radius: got -1, expected 0 or more"),
        (lambda: siamfast.correspondence_warp(Q, R, V, radius=0, window="circle"), ValueError, "without a key"),
        (lambda: siamfast.correspondence_warp(Q, R, V, window="disc"), ValueError, "window: got 'disc'"),
        (lambda: siamfast.correspondence_warp(Q, R, V, topk=0), ValueError, "topk: got 0, expected a whole number"),
        (lambda: siamfast.correspondence_warp(Q, R, V, topk_norm="x"), ValueError, "topk_norm: got 'x'"),
        (lambda: siamfast.correspondence_warp(Q, R, V, frames="x"), ValueError, "frames: got 'x'"),
        (lambda: siamfast.correspondence_warp(Q, R, V, global_frames=(2,)), ValueError, r"global_frames: got \(2,\)"),
        (lambda: siamfast.correspondence_warp(Q, R, V, global_frames=0), TypeError, "global_frames: got 0, expected"),
        (
            lambda: siamfast.correspondence_warp(Q, R, V, global_frames=np.array([0])),
            TypeError,
            r"global_frames: got array\(\[0\]\), expected a sequence of whole numbers",
        ),
        (lambda: siamfast.correspondence_warp(Q, R, V, radius="1"), ValueError, "radius: got '1', expected"),
        (lambda: siamfast.propagate_labels([Q[0]], V[0, 0], tempo=1), TypeError, "overrides: got tempo, expected"),
        (lambda: list(siamfast.propagate_labels([Q[0]], V[0, 0, :, :2])), ValueError, "labels: got .* the features'"),
        (lambda: siamfast.correspondence_warp(Q, R, V, returns=("x",)), ValueError, "returns: got"),
        (
            lambda: siamfast.correspondence_warp(Q, R, V, key_bias=torch.zeros(1, 3, 3)),
            ValueError,
            "key_bias: got shape",
        ),
        (
            lambda: siamfast.propagate_labels([Q[0]], V[0, 0], preset="x"),
            ValueError,
            "preset: got 'x', expected one of",
        ),
        (lambda: siamfast.propagate_labels([Q[0]], V, preset="crw"), ValueError, "labels: got"),
        (lambda: siamfast.propagate_labels([Q[0]], V[0, 0], context=0), ValueError, "context: got 0"),
    ],
)
def test_bad_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
