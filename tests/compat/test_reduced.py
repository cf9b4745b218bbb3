"""Convolutions in 8 bits and bfloat16: within what rounding of inputs and weights explains; templates stay exact."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import siamfast.compat
from siamfast.compat import reduced, trial
from siamfast.compat.convolutions import FastConvolution, geometry
from tests.compat.projects import CROPS, make_package
from tests.compat.test_accelerating import CORRELATION, TRACKER, make
from tests.compat.test_convolutions import trained

no_vnni = reduced.missing("int8")
needs_vnni = pytest.mark.skipif(no_vnni is not None, reason=str(no_vnni))
GEOMETRY = st.tuples(
    st.integers(1, 5), st.integers(0, 2), st.integers(1, 3), st.integers(1, 2), st.sampled_from([1, 2, 8]),
    st.integers(9, 40), st.integers(9, 40), st.integers(0, 2**31),
)  # fmt: skip


def drawn(
    geometry: tuple[int, ...], signed: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Callable[..., torch.Tensor], tuple[Any, ...]]:
    """x, weight, bias, the convolution of float64 tensors, and its options as the makers take them."""
    kernel, padding, stride, dilation, groups, height, width, seed = geometry
    torch.manual_seed(seed)
    x = torch.randn(2, 16, height, width) * 10 ** float(torch.randn(()))
    x = (x if signed else x.relu_()).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(24, 16 // groups, kernel, kernel), torch.randn(24)

    def convolve(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, weight, None, stride, padding, dilation, groups)

    return x, weight, bias, convolve, ([padding] * 2, [stride] * 2, [dilation] * 2, groups, list(x.shape))


@needs_vnni
@given(GEOMETRY, st.booleans())
def test_int8_is_within_half_a_step_of_inputs_and_weights(geometry: tuple[int, ...], signed: bool) -> None:
    x, weight, bias, convolve, options = drawn(geometry, signed)
    assume(reduced.is_right(weight, *options))
    result = reduced.Int8(weight, bias, *options)(x)
    x, weight, bias = x.double(), weight.double(), bias.double().view(-1, 1, 1)
    steps = (weight.flatten(1).abs().amax(1) / 127).view(-1, 1, 1, 1).expand_as(weight)
    step = max(float(x.max()), float(-x.min())) / 127 if signed else float(x.max()) / 255
    bound = convolve(x.abs(), steps / 2) + convolve(torch.full_like(x, step / 2), weight.abs() + steps / 2)
    exact = convolve(x, weight) + bias
    assert ((result - exact).abs() <= 1.001 * bound + 1e-5 * exact.abs().max()).all()  # and sums in float32


@given(GEOMETRY)
def test_bfloat16_is_within_its_rounding(geometry: tuple[int, ...]) -> None:
    """2**-8 of an input, a weight, the bias and the result each; what is emulated where instructions are missing."""
    x, weight, bias, convolve, options = drawn(geometry, signed=True)
    assume(reduced.is_right(weight, *options))
    result = reduced.bfloat16(weight, bias, *options)(x)
    assert result.dtype == torch.float32
    x, weight, bias = x.double(), weight.double(), bias.double().view(-1, 1, 1)
    exact = convolve(x, weight) + bias
    bound = 2.01 * convolve(x.abs(), weight.abs()) + bias.abs() + 1.01 * exact.abs()
    assert ((result - exact).abs() <= 1.1 * bound / 2**8).all()


@pytest.mark.parametrize(
    ("layer", "side", "right"),
    [
        (nn.Conv2d(32, 32, 3, padding=1), 9, True),
        (nn.Conv2d(32, 32, 3, 2, dilation=2), 9, True),
        (nn.Conv2d(32, 64, 1, 4), 9, True),
        (nn.Conv2d(96, 64, 5, groups=2), 9, True),
        (nn.Conv2d(32, 64, 5, groups=2), 9, False),  # 16 channels a group
        (nn.Conv2d(32, 32, 3, 3), 9, False),
        (nn.Conv2d(32, 32, (3, 1), 2), 9, False),  # a stride longer than the kernel
        (nn.Conv2d(32, 32, 5, dilation=2), 9, False),  # a result of one cell
        (nn.Conv2d(32, 32, 3, padding=2), 9, False),
        (nn.Conv2d(32, 32, 3, padding=1), 2, False),
    ],
)
def test_where_amx_may_be_wrong_float32_serves(
    layer: nn.Conv2d, side: int, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduced, "missing", lambda precision: None)
    x = torch.randn(1, layer.in_channels, side, side)
    for amx in (False, True):
        monkeypatch.setattr(reduced, "has_amx", lambda amx=amx: amx)
        assert reduced.is_right(layer.weight, *geometry(layer), list(x.shape)) == (right or not amx)
    fast = FastConvolution(trained(layer), None, None)  # type: ignore[arg-type]
    fast.set_precision("bfloat16")
    with torch.no_grad():
        assert torch.allclose(fast(x), layer(x), atol=1e-4, rtol=1e-4) is not right


@needs_vnni
def test_int8_takes_zeros_and_keeps_nan() -> None:
    x = torch.zeros(1, 16, 9, 9).contiguous(memory_format=torch.channels_last)
    call = reduced.Int8(torch.randn(8, 16, 3, 3), torch.arange(8.0), [0, 0], [1, 1], [1, 1], 1, list(x.shape))
    torch.testing.assert_close(call(x), torch.arange(8.0).view(1, 8, 1, 1).expand(1, 8, 7, 7))
    torch.testing.assert_close(call(x + 3e-37), call(x))
    x[0, 3, 4, 4] = torch.nan
    assert call(x).isnan().all()


@needs_vnni
def test_an_image_does_not_change_anothers_results() -> None:
    layer = trained(nn.Conv2d(16, 64, 3))
    assert isinstance(layer, nn.Conv2d)
    fast = FastConvolution(layer, None, None)
    fast.set_precision("int8")
    x = torch.randn(3, 16, 9, 9)
    with torch.no_grad():
        alone = fast(x[:1])
        x[1], x[2] = 1000 * x[1], torch.nan
        assert torch.equal(fast(x)[:1], alone)
        assert fast(x[:0]).shape == (0, 64, 7, 7)


@pytest.fixture
def project(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(reduced, "_FEWEST_PRODUCTS", 1)
    files = {"tracker.py": TRACKER, "correlation.py": CORRELATION, "crops.py": CROPS}
    make_package(
        packages, "reduced_project", {name: text.replace("accelerated", "reduced") for name, text in files.items()}
    )
    return importlib.import_module("reduced_project.tracker")


def scores(tracker: Any) -> np.ndarray:
    first, *others = trial.clip()
    tracker.init(first, [30, 40, 70, 50])
    return np.array([tracker.track(frame)["best_score"] for frame in others * 3])


@pytest.mark.parametrize("precision", [pytest.param("int8", marks=needs_vnni), "bfloat16"])
def test_a_tracker_in_less_precision(project: Any, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduced, "missing", lambda precision: None)
    monkeypatch.setattr("siamfast.compat.accelerating._SLOWER", 1e9)  # tiny layers are slower
    tracker = make(project)
    before, template = scores(tracker), tracker.network.zf
    with siamfast.compat.accelerate(tracker, precision=precision) as done:
        last = done.steps[-1]
        assert (last.name, last.details) == (precision, "3 convolutions")
        assert last.difference is not None
        after = scores(tracker)
        torch.testing.assert_close(tracker.network.zf, template, rtol=1e-4, atol=1e-4)  # exact, but for folding
        assert 1e-4 < np.abs(after / before - 1).max() < 0.05
        np.testing.assert_array_equal(scores(tracker), after)
    np.testing.assert_array_equal(scores(tracker), before)


def test_a_precision_that_is_slower_is_left_out(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduced, "missing", lambda precision: None)
    monkeypatch.setattr("siamfast.compat.accelerating._SLOWER", 0.0)
    tracker = make(project)
    before = scores(tracker)
    done = siamfast.compat.accelerate(tracker, minimal_filtering=False, precision="bfloat16")
    assert done.steps[-1].difference is None
    assert done.steps[-1].details.endswith("slower on this CPU")
    np.testing.assert_allclose(scores(tracker), before, rtol=1e-4)


def test_a_copy_on_another_machine_runs_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduced, "missing", lambda precision: None)
    layer = trained(nn.Conv2d(16, 64, 3))
    assert isinstance(layer, nn.Conv2d)
    fast = FastConvolution(layer, None, None)
    fast.set_precision("bfloat16")
    x = torch.randn(1, 16, 9, 9)
    with torch.no_grad():
        exact, reduced_result = layer(x), fast(x)
        assert not torch.allclose(exact, reduced_result, atol=1e-4)
        loaded = pickle.loads(pickle.dumps(fast))
        monkeypatch.setattr(reduced, "missing", lambda precision: "no instructions")
        torch.testing.assert_close(loaded(x), exact, atol=1e-4, rtol=1e-4)


def test_a_precision_that_cannot_be_is_one_line(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="precision: got 'half', expected one of float32, bfloat16, int8"):
        siamfast.compat.accelerate(make(project), precision="half")
    monkeypatch.setattr(reduced, "missing", lambda precision: "this CPU has none")
    with pytest.raises(ValueError, match="precision: got 'int8', but this CPU has none"):
        siamfast.compat.accelerate(make(project), precision="int8")
