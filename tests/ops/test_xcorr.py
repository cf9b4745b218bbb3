"""The correlations equal what trackers compute today, on shapes drawn fresh; what does not fit is named."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import siamfast

small = st.integers(1, 7)


@st.composite
def pairs(draw: st.DrawFn, kernels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """float64 templates (Nz, O*C, Hz, Wz) and searches (k*Nz, C, Hx, Wx) of any small shape, C = 1 and batch 0 too."""
    nz, k, channels = draw(st.integers(0, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    hz, wz = draw(small), draw(small)
    hx, wx = hz + draw(st.integers(0, 7)), wz + draw(st.integers(0, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    z = torch.randn(nz, kernels * channels, hz, wz, generator=generator, dtype=torch.float64)
    return z, torch.randn(nz * k, channels, hx, wx, generator=generator, dtype=torch.float64)


def _with_gradients(call: Any, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    leaves = [t.clone().requires_grad_() for t in inputs]
    output = call(*leaves)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    return (output.detach(), *torch.autograd.grad(output, leaves, weight))


@settings(max_examples=40)
@given(pairs(kernels=2), st.integers(0, 2), st.integers(0, 2), st.sampled_from(["cycle", "all"]))
def test_xcorr_equals_its_reference(pair: Any, ph: int, pw: int, pairing: str) -> None:
    scale, bias = torch.tensor([0.5, -2.0], dtype=torch.float64), torch.tensor(0.25, dtype=torch.float64)

    def call(z: torch.Tensor, x: torch.Tensor, s: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return siamfast.xcorr(z, x, scale=s, bias=b, padding=(ph, pw), pairing=pairing)

    ours = _with_gradients(call, *pair, scale, bias)
    with siamfast.backend("reference"):
        torch.testing.assert_close(ours, _with_gradients(call, *pair, scale, bias))


@settings(max_examples=40)
@given(pairs(), st.integers(0, 10), st.integers(0, 3))
def test_depthwise_equals_its_reference(pair: Any, ph: int, pw: int) -> None:
    def call(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return siamfast.xcorr_depthwise(z, x, padding=(ph, pw))

    ours = _with_gradients(call, *pair)
    with siamfast.backend("reference"):
        torch.testing.assert_close(ours, _with_gradients(call, *pair))


@settings(max_examples=40)
@given(pairs())
def test_pixelwise_equals_its_reference(pair: Any) -> None:
    ours = _with_gradients(siamfast.xcorr_pixelwise, *pair)
    with siamfast.backend("reference"):
        torch.testing.assert_close(ours, _with_gradients(siamfast.xcorr_pixelwise, *pair))


@pytest.mark.parametrize("backend", [None, "torch", "reference"])
@pytest.mark.parametrize("op", [siamfast.xcorr, siamfast.xcorr_depthwise])
def test_a_search_without_pixels_is_its_padding(op: Any, backend: str | None) -> None:
    with siamfast.backend(backend) if backend else contextlib.nullcontext():
        response, dz, dx = _with_gradients(
            functools.partial(op, padding=1), torch.ones(1, 3, 1, 2), torch.ones(2, 3, 0, 0)
        )
    assert response.shape == (2, 3 if op is siamfast.xcorr_depthwise else 1, 2, 1)
    assert not response.any()
    assert torch.equal(dz, torch.zeros(1, 3, 1, 2))
    assert dx.shape == (2, 3, 0, 0)


def test_training_batch_equals_grouped_convolution() -> None:
    z, x = torch.randn(8, 16, 6, 6, dtype=torch.float64), torch.randn(8, 16, 22, 22, dtype=torch.float64)
    grouped = F.conv2d(x.view(1, 8 * 16, 22, 22), z, groups=8).view(8, 1, 17, 17)
    torch.testing.assert_close(siamfast.xcorr(z, x, scale=1e-3), grouped * 1e-3)


def test_three_scales_of_one_template_equal_plain_conv2d() -> None:
    z, x = torch.randn(1, 16, 6, 6, dtype=torch.float64), torch.randn(3, 16, 22, 22, dtype=torch.float64)
    torch.testing.assert_close(siamfast.xcorr(z, x), F.conv2d(x, z))


def test_cycle_pairs_search_i_with_template_i_mod_nz() -> None:
    z, x = torch.randn(2, 4, 3, 3, dtype=torch.float64), torch.randn(6, 4, 8, 8, dtype=torch.float64)
    out = siamfast.xcorr(z, x)
    for i in range(6):
        torch.testing.assert_close(out[i], F.conv2d(x[i : i + 1], z[i % 2 : i % 2 + 1])[0])


def test_all_pairs_equals_plain_conv2d() -> None:
    z, x = torch.randn(5, 4, 3, 3, dtype=torch.float64), torch.randn(2, 4, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(siamfast.xcorr(z, x, pairing="all"), F.conv2d(x, z))


def test_up_channel_kernels_have_o_slowest() -> None:
    """SiamRPN's classification branch: 10 kernels from one template, a convolution with (10, C, 4, 4) weights."""
    z, x = torch.randn(2, 10 * 8, 4, 4, dtype=torch.float64), torch.randn(2, 8, 20, 20, dtype=torch.float64)
    each = [F.conv2d(x[n : n + 1], z[n].view(10, 8, 4, 4)) for n in range(2)]
    torch.testing.assert_close(siamfast.xcorr(z, x), torch.cat(each))


def test_depthwise_equals_one_group_per_plane() -> None:
    z, x = torch.randn(3, 8, 5, 5, dtype=torch.float64), torch.randn(3, 8, 29, 29, dtype=torch.float64)
    grouped = F.conv2d(x.view(1, 24, 29, 29), z.view(24, 1, 5, 5), groups=24).view(3, 8, 25, 25)
    torch.testing.assert_close(siamfast.xcorr_depthwise(z, x), grouped)


def test_pixelwise_equals_one_by_one_kernels() -> None:
    z, x = torch.randn(2, 6, 3, 4, dtype=torch.float64), torch.randn(2, 6, 7, 5, dtype=torch.float64)
    each = [F.conv2d(x[n : n + 1], z[n].flatten(1).T.reshape(12, 6, 1, 1)) for n in range(2)]
    torch.testing.assert_close(siamfast.xcorr_pixelwise(z, x), torch.cat(each))


def test_pixelwise_on_a_gpu_is_one_product_of_pytorchs() -> None:
    with FakeTensorMode(), FlopCounterMode(display=False) as counted:
        response = siamfast.xcorr_pixelwise(*(torch.empty(2, 6, *size, device="cuda") for size in ((3, 4), (7, 5))))
    assert (response.shape, response.device.type) == ((2, 12, 7, 5), "cuda")
    assert [str(op) for op in counted.get_flop_counts()["Global"]] == ["aten.bmm"]


def test_circular_h_wraps_rows_and_repeats_columns() -> None:
    z, x = torch.randn(1, 2, 3, 3, dtype=torch.float64), torch.randn(1, 2, 4, 6, dtype=torch.float64)
    padded = torch.cat([x[:, :, 2:], x, x[:, :, :2]], 2)
    padded = torch.cat([padded[..., :1].expand(-1, -1, -1, 3), padded, padded[..., -1:].expand(-1, -1, -1, 3)], 3)
    torch.testing.assert_close(siamfast.xcorr(z, x, padding="circular-h"), F.conv2d(padded, z))


def test_one_template_for_a_batch_may_be_expanded() -> None:
    z, x = torch.randn(1, 4, 3, 3, dtype=torch.float64), torch.randn(5, 4, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(siamfast.xcorr(z.expand(5, -1, -1, -1), x), siamfast.xcorr(z, x))


def test_channels_last_gradient_stays_channels_last() -> None:
    z = torch.randn(2, 8, 3, 3, requires_grad=True)
    x = torch.randn(2, 8, 9, 9).contiguous(memory_format=torch.channels_last).requires_grad_()
    siamfast.xcorr(z, x).sum().backward()
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("op", [siamfast.xcorr, siamfast.xcorr_depthwise, siamfast.xcorr_pixelwise])
def test_float64_with_float32_is_refused_under_autocast_too(op: Any) -> None:
    z, x = torch.ones(1, 2, 2, 2, dtype=torch.float64), torch.ones(1, 2, 5, 5)
    for first, second in ((z, x), (z.float(), x.double())):
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match="z: got dtype torch.float"):
            op(first, second)


@pytest.mark.parametrize("backend", ["reference", "torch", "cpp"])
@pytest.mark.parametrize("number", [torch.float16, torch.float32, torch.float64])
def test_scale_and_bias_have_a_dtype_of_their_own(backend: str, number: torch.dtype) -> None:
    z, x = torch.randn(1, 4, 2, 2, requires_grad=True), torch.randn(1, 2, 5, 5, requires_grad=True)
    scale, bias = torch.rand(2, requires_grad=True, dtype=number), torch.rand(1, requires_grad=True, dtype=number)
    expected = torch.autograd.grad(siamfast.xcorr(z, x, scale=scale.float(), bias=bias.float()).sum(), (z, x, scale))
    with siamfast.backend(backend):
        result = siamfast.xcorr(z, x, scale=scale, bias=bias)
    assert result.dtype == torch.float32
    # Sums of 64 products, in another order.
    torch.testing.assert_close(torch.autograd.grad(result.sum(), (z, x, scale)), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_values_stay_in_the_windows_that_cover_them(value: float) -> None:
    z, x = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 6, 6)
    x[0, 0, 0, 0] = value
    out = siamfast.xcorr_depthwise(z, x)
    assert not out[0, 0, 0, 0].isfinite()
    assert out[0, 0, 1:, 1:].isfinite().all()


Z, X = torch.zeros(2, 4, 3, 3), torch.zeros(4, 4, 8, 8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: siamfast.xcorr([1], X), TypeError, "z: got list, expected a torch.Tensor"),
        (lambda: siamfast.xcorr(Z, X[0]), ValueError, r"x: got shape \(4, 8, 8\), expected 4 dimensions"),
        (lambda: siamfast.xcorr(Z.int(), X), TypeError, "z: got dtype torch.int32, expected a floating dtype"),
        (lambda: siamfast.xcorr(Z.double(), X), TypeError, "z: got dtype torch.float64, expected x's torch.float32"),
        (lambda: siamfast.xcorr(Z, X[:3]), ValueError, "x: got a batch of 3, expected a multiple of z's 2"),
        (lambda: siamfast.xcorr(Z[:, :3], X), ValueError, "z: got 3 channels, expected a multiple of x's 4"),
        (lambda: siamfast.xcorr_depthwise(Z[:, :2], X), ValueError, "z: got 2 channels, expected x's 4"),
        (lambda: siamfast.xcorr(Z, X, pairing="each"), ValueError, "pairing: got 'each', expected 'cycle' or 'all'"),
        (lambda: siamfast.xcorr(Z, X, padding=-1), ValueError, "padding: got -1, expected no negative number"),
        (lambda: siamfast.xcorr(Z, X, padding="same"), ValueError, "padding: got 'same', expected"),
        (lambda: siamfast.xcorr(Z, X, padding=1.5), TypeError, "padding: got 1.5, expected"),
        (lambda: siamfast.xcorr(Z, X[..., :2]), ValueError, "z: got a template of .*, larger than the search"),
        (lambda: siamfast.xcorr(Z, X, scale="1"), TypeError, "scale: got str, expected a number or a tensor"),
        (lambda: siamfast.xcorr(Z, X, bias=torch.zeros(3)), ValueError, "bias: got 3 elements, expected 1 or one per"),
        (lambda: siamfast.xcorr(Z[:, :, :0], X), ValueError, "z: got an empty template"),
        (lambda: siamfast.xcorr(Z[:0], X), ValueError, "x: got a batch of 4, expected a multiple of z's 0"),
    ],
)
def test_bad_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
