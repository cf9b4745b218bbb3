"""Launches compile as they would for a real GPU, at sizes of 1 too."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from siamfast.kernels import static, tf32
from siamfast.kernels.integers import MOST
from siamfast.kernels.launches import Call, compile_launch, launches_of

import siamfast
from siamfast.ops import dispatch
from siamfast.ops.augment import triton as augment_triton
from siamfast.ops.augment.call import AugmentCall
from siamfast.ops.augment.call import Options as AugmentOptions
from siamfast.ops.balanced_logistic_loss import triton as loss_triton
from siamfast.ops.balanced_logistic_loss.call import Options as LossOptions
from siamfast.ops.correspondence_warp import triton as warp_triton
from siamfast.ops.correspondence_warp.call import Options as WarpOptions
from siamfast.ops.correspondence_warp.call import Tensors
from siamfast.ops.crop_and_resize import triton as crop_triton
from siamfast.ops.crop_and_resize.call import Border, CropCall, Rule
from siamfast.ops.crop_and_resize.call import Options as CropOptions
from siamfast.ops.xcorr import autograd as xcorr_autograd
from siamfast.ops.xcorr import triton as xcorr_triton
from siamfast.ops.xcorr.call import DepthwiseCall, Numbers, XcorrCall
from tests.kernels import launched
from tests.kernels.launch_cases.case import Case, zeros
from tests.kernels.launch_cases.correlations import correlate

ROOT = Path(__file__).parents[2]


def test_a_kernel_that_cannot_be_read_is_named_by_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    def usages_of(kernels: list[str]) -> list[static.Usage]:
        if "broken" in kernels:
            raise ValueError("no section")
        return [static.Usage(32, 8 * (kernel == "spilled"), 0, 0, 0, 0, 4) for kernel in kernels]

    monkeypatch.setattr(static, "usages_of", usages_of)
    proof = launched.Proof()
    proof.unread[90] = [(what, f"{what}_kernel", Case("xcorr", what, lambda: None)) for what in ("good", "broken")]
    proof.unread[90].append(("spilled", "spilled_kernel", Case("xcorr", "spilled", lambda: None)))
    proof.read(90)
    assert [line.split(": ")[0] for line in proof.wrong] == ["sm_90 broken_kernel", "sm_90 spilled_kernel"]
    assert ["no section" in line for line in proof.wrong] == [True, False]
    assert [line.rpartition(" ")[2] for line in proof.wrong] == ["broken", "spilled"]


@pytest.mark.parametrize(("setting", "expected"), [("ieee", False), ("tf32", True)])
def test_tf32_follows_the_newer_settings(setting: str, expected: bool) -> None:
    """The older getter raises once the newer settings were used; each setting is restored."""
    before = torch.backends.cudnn.conv.fp32_precision
    try:
        torch.backends.cudnn.conv.fp32_precision = setting
        assert tf32.allowed() == expected
        assert tf32.precision(torch.zeros(1)) == ("tf32" if expected else tf32.EXACT)
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    old = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = expected
    assert tf32.allowed() == expected
    torch.backends.cudnn.allow_tf32 = old


def _windowed(frames: int, channels: int, side: tuple[int, int], layout: str) -> None:
    query, keys = zeros((1, 64, *side), torch.float16), zeros((1, frames, 64, *side), torch.float16)
    values = zeros((1, frames, channels, *side), torch.float32, layout)
    bias = zeros((1, frames, *side), torch.float32, layout)
    with siamfast.backend("triton"):
        out = siamfast.correspondence_warp(query, keys, values, key_bias=bias, radius=6.0)
    torch.autograd.grad(out, (query, keys, values), torch.zeros_like(out))


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_a_window_has_one_program_for_maps_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of one row or one frame, and of values and a bias at odd addresses."""
    monkeypatch.setattr(dispatch, "triton_reason", lambda *ignored: None)
    programs: dict[str, set[str]] = {}
    for sizes in ((2, 3, (20, 20), "plain"), (1, 4, (16, 32), "shifted"), (3, 3, (1, 17), "plain")):
        for launch in launches_of(Call("", functools.partial(_windowed, *sizes), 0, 0), 80):
            programs.setdefault(launch.name, set()).add(compile_launch(launch, 80).hash)
    numbers = {name: len(hashes) for name, hashes in programs.items() if "rows" not in name}
    # Slopes of keys and slopes of values are two programs of one kernel.
    ones = dict.fromkeys(("warp_forward_kernel", "warp_ends_kernel", "warp_query_slopes_kernel"), 1)
    assert numbers == ones | {"warp_key_slopes_kernel": 2}


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_gradients_of_any_search_fit_the_registers_of_sm_90(monkeypatch: pytest.MonkeyPatch) -> None:
    """In TF32. With four warps these had 8 to 144 bytes on the stack, by rows of many alignments, templates of one
    column, several kernels with rows of 16, and 60 taps with a scale."""
    monkeypatch.setattr(dispatch, "triton_reason", lambda *ignored: None)
    shapes = (
        ((3, 65, 3, 7), (3, 65, 13, 29)),
        ((40, 200, 18, 1), (40, 200, 45, 6)),
        ((40, 5120, 2, 2), (40, 320, 40, 16)),
        ((129, 48, 10, 6), (258, 48, 12, 19)),
    )
    launches = []
    for z, x in shapes:
        call = functools.partial(
            correlate, zeros(z, torch.float32), zeros(x, torch.float32), "full", scaled=z[2:] == (10, 6)
        )
        with siamfast.backend("triton"):
            made = launches_of(Call("", call, 0, 0), 90)
        launches += [launch for launch in made if launch.name == "gradients_kernel"]
    assert [used.stack for used in static.usages_for(launches, 90)] == [0] * 4


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_places_and_distances_are_rounded_as_the_reference_rounds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product and a sum contracted to one instruction would move exact ties: labels at a radius, a crop's borders."""
    monkeypatch.setattr(dispatch, "triton_reason", lambda *ignored: None)
    scores, centers = zeros((2, 1, 17, 17), torch.float32), torch.zeros(2, 2)
    frame, middle, side = torch.zeros(1, 3, 40, 40), torch.full((1, 2), 20.0), torch.full((1,), 30.0)
    calls = (
        lambda: siamfast.balanced_logistic_loss(scores, centers=centers, metric="l2"),
        lambda: siamfast.crop_and_resize(frame, middle, side, 127, fill=0.0),
    )
    for call in calls:
        with siamfast.backend("triton"):
            (launch,) = launches_of(Call("", call, 0, 0), 90)
        code = compile_launch(launch, 90).asm["ptx"]
        assert "mul.rn" in code, launch.name
        contracted = replace(launch, options=launch.options | {"enable_fp_fusion": True})
        assert code.count("fma.rn") < compile_launch(contracted, 90).asm["ptx"].count("fma.rn"), launch.name


def _meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta", dtype=torch.bfloat16)


def test_calls_beyond_a_grid_or_int32_are_plain_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sizes of tensors without memory; what a launch allows on the other axes is in launch_cases."""
    served: list[str] = []
    for name in ("depthwise_forward", "depthwise_backward", "full_backward"):
        monkeypatch.setattr(xcorr_triton.eager, name, lambda *arguments, name=name: served.append(name))
    monkeypatch.setattr(xcorr_autograd, "by_reference", lambda call: served.append("full_forward") or call.x)
    one = _meta(1, 1, 1, 1)
    planes = DepthwiseCall(_meta(1, 1 << 16, 1, 1), _meta(1 << 15, 1 << 16, 1, 1), 0, 0)
    wide = DepthwiseCall(_meta(1, 1024, 1, 1), _meta(1, 1024, 2048, 2047).to(memory_format=torch.channels_last), 0, 0)
    for call in (planes, wide):
        xcorr_triton.depthwise_forward(call)
        xcorr_triton.depthwise_backward(call.x, call, [True, True])
    for x in (_meta(1 << 31, 1, 1, 1), wide.x):
        full = XcorrCall(_meta(1, x.shape[1], 1, 1), x, None, None, Numbers(1.0, 0.0, 0, 0, False))
        xcorr_triton.full_backward(_meta(len(x), 1, *x.shape[2:]), full, [True, True, False, False])
    # Of one search, of its response, and of all templates, as they lie in memory.
    row, numbers = _meta(1, 1, 1, 1 << 12), Numbers(1.0, 0.0, 0, 0, False)
    for z, x in (
        (one.expand(1, 1 << 20, 1, 1), row.expand(1, 1 << 20, 1, 1 << 12)),
        (_meta(1 << 20, 1, 1, 1), row),
        (torch.empty_strided((3, 1, 1, 1), (1 << 30, 1, 1, 1), device="meta"), row),
    ):
        full = XcorrCall(z, x, None, None, numbers._replace(all_pairs=True))
        xcorr_triton.full_backward(_meta(1, len(z), 1, 1 << 12), full, [True, True, False, False])
    # No pixels but the padding.
    none = _meta(1, 1, 0, 0)
    padded = XcorrCall(one, none, None, None, numbers._replace(pad_y=1, pad_x=1))
    xcorr_triton.full_backward(_meta(1, 1, 2, 2), padded, [True, True, False, False])
    xcorr_triton.depthwise_backward(_meta(1, 1, 2, 2), DepthwiseCall(one, none, 1, 1), [True, True])
    xcorr_triton.full_forward(XcorrCall(one, one, None, None, Numbers(1.0, 0.0, 23200, 23200, False)))  # 46,401^2 cells
    backward = ["full_backward"] * 6 + ["depthwise_backward"]
    assert served == ["depthwise_forward", "depthwise_backward"] * 2 + backward + ["full_forward"]
    side = 46341  # squared, more than int32
    crop = CropOptions(side, side, Border.CONSTANT, Rule.PIXEL, False)
    assert not crop_triton.serves(CropCall(one, _meta(1, 4), one, crop))
    small = crop._replace(height=1, width=1)
    assert not crop_triton.serves(CropCall(one, _meta(1 << 31, 4), one, small))
    assert crop_triton.serves(CropCall(one, _meta(MOST, 4), one, small))
    assert not crop_triton.serves(CropCall(one, _meta(1, 4), one, crop._replace(height=1, width=MOST + 1)))
    monkeypatch.setattr(loss_triton.eager, "forward", lambda *arguments: served.append("loss"))
    for shape in ((1, 1, side, side), (1 << 31, 1, 1, 1)):
        loss_triton.forward(_meta(*shape), None, None, LossOptions(8.0, 16.0, 0.0, 1.0, 0, 0, 0, 0))
    around = _meta(1 << 30, 2)  # two numbers of each sample
    loss_triton.forward(_meta(1 << 30, 1, 1, 1), None, around, LossOptions(8.0, 16.0, 0.0, 1.0, 0, 0, 0, 0))
    assert served[-3:] == ["loss"] * 3
    frames = _meta(1, 1 << 16, 1, 1, 1)
    for samples, beyond in ((1 << 15, True), ((1 << 15) - 1, False)):
        warps = Tensors(one.expand(samples, 1, 1, 1), *[frames.expand(samples, *frames.shape[1:])] * 2, None)
        options = WarpOptions(1.0, True, -1.0, False, [], 0, post=False, details=False)
        assert warp_triton._too_many(warps, options) == beyond
    images = AugmentCall(_meta(MOST // 3 + 1, 3, 1, 1), one, AugmentOptions(1, 1, [], [], torch.float32))
    assert not augment_triton.serves(images)
    assert augment_triton.serves(images._replace(images=_meta(MOST // 3, 3, 1, 1)))


KERNELS = {
    "augment_kernel",
    "augment_means_kernel",
    "balanced_logistic_loss_kernel",
    "crop_and_resize_kernel",
    "depthwise_forward_kernel",
    "depthwise_template_gradient_kernel",
    "diagonal_sums_kernel",
    "gradients_kernel",
    "search_gradient_kernel",
    "template_gradient_kernel",
    "through_unit_rows_kernel",
    "unit_rows_kernel",
    "warp_chosen_kernel",
    "warp_ends_kernel",
    "warp_forward_kernel",
    "warp_join_kernel",
    "warp_key_slopes_kernel",
    "warp_lists_kernel",
    "warp_logit_slopes_kernel",
    "warp_query_slopes_kernel",
    "warp_top_keys_kernel",
    "warp_top_slopes_kernel",
}


@pytest.mark.timeout(900)
def test_every_launch_compiles_and_fits_the_chips() -> None:
    """A sample with a fixed seed; `make gpu-proof` compiles all of them."""
    command = [sys.executable, "-m", "tests.kernels.launched"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    kernels = next(line for line in done.stdout.splitlines() if line.startswith("launched:"))
    assert set(kernels.removeprefix("launched: ").split(", ")) == KERNELS
